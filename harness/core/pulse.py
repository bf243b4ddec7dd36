"""Notice a process of a run that no longer answers, such as a stopped one, which its parent still sees alive.

Time is counted in ticks of the process that watches: if all processes are stopped together, as by a queue that suspends
a job, none of them is late when they go on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

TICK_S = 1.0

# Long for a process that waits for a core of a busy machine, short for a person who waits for a run that is stuck.
MOST_SILENT = 20

# A process whose main thread is stuck still beats, but the others wait for it. What they do between two exchanges takes
# all of them about as long; the first one includes imports and the reading of a checkpoint.
MOST_WAITING, TIMES_WORK = 120, 20

CONTINUES = "the run continues from its last checkpoint"


class Pulse:
    """Beats of the processes of one run, through their store.

    Rank 0 holds the store. It watches the beats of the others, and each of the others whether the store answers.

    Args:
        store: a connection that nothing else uses, since another user may block it.
        rank: number of this process.
        size: number of processes.
        lost: called once from a thread with the line that says which process is lost.
        turns: how often this process has begun or ended an exchange: odd while it waits for the others.
        tick_s: seconds between two beats.
    """

    def __init__(
        self,
        store: Any,
        rank: int,
        size: int,
        lost: Callable[[str], None],
        *,
        turns: Callable[[], int] = lambda: 0,
        tick_s: float = TICK_S,
    ) -> None:
        self._store, self._rank, self._size, self._lost, self._turns = store, rank, size, lost, turns
        self._tick_s = tick_s
        self._num_answers = 0
        self._closed = threading.Event()

    def start(self) -> None:
        """Begin to beat and to watch."""
        for task in (self._watch_others,) if self._rank == 0 else (self._beat, self._watch_first):
            threading.Thread(target=task, name="pulse", daemon=True).start()

    def stop(self) -> None:
        """Watch no longer."""
        self._closed.set()

    def _beat(self) -> None:
        # An error means that rank 0 has ended, which is noticed by the end of its pipe or of an exchange.
        with suppress(Exception):
            while not self._closed.wait(self._tick_s):
                self._store.add(f"beat/{self._rank}", 1)
                self._num_answers += 1
        self._closed.set()

    def _watch_first(self) -> None:
        answers = _Unchanged()
        while not self._closed.wait(self._tick_s):
            if answers.ticks(self._num_answers) >= MOST_SILENT:
                self._report(f"process 1 of {self._size} has not answered for {MOST_SILENT} s")

    def _watch_others(self) -> None:
        beats, turns, longest_work = [_Unchanged() for _ in range(self._size)], _Unchanged(), 0
        while not self._closed.wait(self._tick_s):
            for rank in range(1, self._size):
                if beats[rank].ticks(self._store.add(f"beat/{rank}", 0)) >= MOST_SILENT:
                    self._report(f"process {rank + 1} of {self._size} has not answered for {MOST_SILENT} s")
            turn = self._turns()
            ticks = turns.ticks(turn)
            if turn % 2 == 0:
                longest_work = max(longest_work, ticks)
            elif ticks >= max(MOST_WAITING, TIMES_WORK * longest_work):
                self._report(f"a process of {self._size} is stuck: process 1 has waited {ticks} s for the others")

    def _report(self, what: str) -> None:
        self._closed.set()
        self._lost(f"{what}; {CONTINUES}")


class _Unchanged:
    """For how many ticks a number has been the same."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._num = 0

    def ticks(self, number: int) -> int:
        self._num = self._num + 1 if number == self._last else 0
        self._last = number
        return self._num
