"""A process that no longer answers is noticed by its beats, one that is stuck by the time that others wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from harness.core import pulse
from harness.core.pulse import Pulse

PATIENCE_S = 60.0


class Beats:
    """The store of a run: a function says for each call what it answers."""

    def __init__(self, answer: Callable[[str, int], int]) -> None:
        self.add = answer


@contextmanager
def watching(rank: int, store: Beats, turns: Callable[[], int] = lambda: 0) -> Iterator[Callable[..., str | None]]:
    """A pulse of three processes; gives a function that waits for the line on a lost one."""
    lines, is_lost = list[str](), threading.Event()

    def lost(line: str) -> None:
        lines.append(line)
        is_lost.set()

    one = Pulse(store, rank, 3, lost, turns=turns, tick_s=1e-4)
    one.start()
    yield lambda wait_s=PATIENCE_S: lines[0] if is_lost.wait(wait_s) else None
    one.stop()


def test_rank_0_names_the_process_that_stops_to_beat() -> None:
    beats = count()
    with watching(0, Beats(lambda name, _: next(beats) if name == "beat/1" else min(next(beats), 50))) as line:
        assert line() == "process 3 of 3 has not answered for 20 s; the run continues from its last checkpoint"


def test_another_rank_notices_that_the_store_of_rank_0_does_not_answer() -> None:
    stopped, calls = threading.Event(), count()

    def answer(name: str, _: int) -> int:
        assert name == "beat/2"
        if next(calls) > 5:
            stopped.wait()
        return 0

    with watching(2, Beats(answer)) as line:
        assert line() == "process 1 of 3 has not answered for 20 s; the run continues from its last checkpoint"
    stopped.set()


def test_the_end_of_rank_0_is_not_a_lost_process() -> None:
    gone = threading.Event()

    def answer(name: str, _: int) -> int:
        gone.set()
        raise RuntimeError("the connection is closed")

    with watching(1, Beats(answer)) as line:
        assert gone.wait(PATIENCE_S)
        for thread in threading.enumerate():
            if thread.name == "pulse":
                thread.join(PATIENCE_S)
        assert line(0) is None


@pytest.mark.parametrize("work", [0, 10])
def test_waiting_is_bounded_by_the_longest_work_between_two_exchanges(
    monkeypatch: pytest.MonkeyPatch, work: int
) -> None:
    monkeypatch.setattr(pulse, "MOST_WAITING", 30)
    beats, ticks = count(), count()
    # Asked once a tick: so many ticks of work, then an exchange without end.
    with watching(0, Beats(lambda name, _: next(beats)), lambda: int(next(ticks) > work)) as line:
        expected = max(30, pulse.TIMES_WORK * work)
        assert line() == (
            f"a process of 3 is stuck: process 1 has waited {expected} s for the others; "
            "the run continues from its last checkpoint"
        )


def test_work_and_exchanges_that_go_on_are_no_loss() -> None:
    beats, ticks, enough = count(), count(), threading.Event()

    def turns() -> int:
        if (tick := next(ticks)) > 5 * pulse.MOST_WAITING:
            enough.set()
        return tick // 7  # seven ticks of work, seven of waiting

    with watching(0, Beats(lambda name, _: next(beats)), turns) as line:
        assert enough.wait(PATIENCE_S)
        assert line(0) is None
