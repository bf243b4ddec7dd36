"""Taking turns at planning: silent where nobody is in the way, said where somebody is, and never for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.deadline import Leg
from harness.core.errors import BusyError, StoreError
from harness.results.store import Store
from harness.runs import turns
from harness.runs.turns import WaitedError, alone


def test_nobody_is_told_where_nobody_waits(tmp_path: Path) -> None:
    said: list[str] = []
    store = Store(tmp_path)
    with alone(store, "markov-qrnn", None, said.append), pytest.raises(BusyError):
        store.lock("markov-qrnn").__enter__()
    with store.lock("markov-qrnn"):
        assert not said


@pytest.mark.parametrize(("leg", "error"), [(Leg(0.05), WaitedError), (None, BusyError)])
def test_a_wait_is_said_before_it_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leg: Leg | None, error: type[StoreError]
) -> None:
    monkeypatch.setattr(turns, "WAIT_S", 0.05)
    store, said = Store(tmp_path), []
    with store.lock("markov-qrnn"), pytest.raises(BusyError) as caught, alone(store, "markov-qrnn", leg, said.append):
        raise AssertionError("held twice")
    assert type(caught.value) is error
    assert said == ["waiting for another command that plans the same: markov-qrnn"]


def test_a_failure_within_a_turn_is_no_wait_and_lets_go(tmp_path: Path) -> None:
    store, said = Store(tmp_path), []
    with pytest.raises(BusyError, match="of another run"), alone(store, "markov-qrnn", None, said.append):
        raise BusyError("of another run")
    assert not said
    with alone(store, "markov-qrnn", Leg(1), said.append):
        pass
    assert not said


def test_a_disk_that_refuses_is_no_wait(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("in the way")
    said: list[str] = []
    with pytest.raises(StoreError, match="cannot be written"), alone(Store(tmp_path), "x", None, said.append):
        raise AssertionError("held nothing")
    assert not said
