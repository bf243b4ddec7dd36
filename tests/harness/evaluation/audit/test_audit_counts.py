"""The check `exactly once`: tallies that count something else than the text are caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from leaky_model import Leaky

from harness.core.interfaces import LoadedModel
from harness.core.scores import Tally
from harness.evaluation import protocols, scoring
from harness.evaluation.audit import counts

VOCABULARY = ["<eos>", "the", "é", "sat", "on", "mat"]
TEXT = "the é sat\n\non the mat\n" * 9


@pytest.fixture
def loaded() -> LoadedModel:
    model = Leaky(len(VOCABULARY))
    return LoadedModel(Path("leaky"), model, {}, "float32", "float32", VOCABULARY, "word", "0" * 64, "cpu")


def scored(loaded: LoadedModel, folder: Path, protocol: str = "exact") -> tuple[Any, Any]:
    (folder / "text").write_text(TEXT)
    request = scoring.EvaluationRequest(model=loaded, text=folder / "text", protocol=protocol)
    return scoring.score_text(request, keep_nll=True), scoring.protocol_of(request)


@pytest.mark.parametrize("protocol", ["exact", "streams"])
def test_a_score_counts_its_text(protocol: str, loaded: LoadedModel, tmp_path: Path) -> None:
    made, asked = scored(loaded, tmp_path, protocol)
    check = counts.check(loaded, made, asked)
    assert check.passed, check.detail
    # Counted here from the file: without the first word, with the space before the second.
    assert made.score.tally.num_bytes == len(TEXT.encode()) - len("the")
    assert counts.text_of(loaded, made.text.ids).decode() == TEXT


@pytest.mark.parametrize(
    "fault",
    [
        lambda tally: replace(tally, num_targets=2 * tally.num_targets),
        lambda tally: replace(tally, num_units=2 * tally.num_units),
        lambda tally: replace(tally, num_units=tally.num_units + 1),
        lambda tally: replace(tally, nll_nats=2 * tally.nll_nats),
        lambda tally: replace(tally, nll_nats=tally.nll_nats * (1 - 1e-6)),
        lambda tally: replace(tally, num_dropped=0),
        lambda tally: replace(tally, num_bytes=tally.num_bytes + 3),
    ],
)
def test_a_tally_that_counts_otherwise_is_caught(
    fault: Callable[[Tally], Tally], loaded: LoadedModel, tmp_path: Path
) -> None:
    made, asked = scored(loaded, tmp_path)
    wrong = replace(made, score=replace(made.score, tally=fault(made.score.tally)))
    assert not counts.check(loaded, wrong, asked).passed


def test_scoring_that_adds_targets_twice_is_caught(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, asked = scored(loaded, tmp_path)
    nll = protocols._nll

    def twice(*arguments: Any) -> tuple[np.ndarray, Any]:
        losses, state = nll(*arguments)
        return 2 * losses, state

    monkeypatch.setattr(protocols, "_nll", twice)
    check = counts.check(loaded, made, asked)
    assert not check.passed
    assert "known losses" in check.detail


def test_scoring_of_inputs_for_targets_is_caught(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, asked = scored(loaded, tmp_path)
    nll = protocols._nll
    monkeypatch.setattr(protocols, "_nll", lambda model, tokens, state: nll(model, np.roll(tokens, 1, 0), state))
    assert not counts.check(loaded, made, asked).passed
