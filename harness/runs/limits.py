"""How an invocation ends before its runs are done: a time limit, a queue's signal, or Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from harness.core.errors import BudgetError
from harness.core.specs import RunSpec
from harness.worker.job import EXIT_RESUME

EXIT_CTRL_C = 130

# Part of a time limit that is left for saving and ending: a checkpoint of a large model on a slow disk takes seconds.
RESERVE_SHARE, RESERVE_S = 0.2, 30.0

# SIGTERM: scancel, and Slurm at the time limit. SIGUSR1: the usual choice for `sbatch --signal`.
QUEUE_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class QueueSignal(KeyboardInterrupt):
    """One of QUEUE_SIGNALS arrived. A KeyboardInterrupt, so that all that cleans up after Ctrl-C does so here."""


class SuiteInterrupted(Exception):  # noqa: N818 - a granted request, not an error
    """The invocation ends before its runs are done; the same command continues.

    Attributes:
        cause: `time limit`, `Ctrl-C` or the name of a signal.
        state: what has become of the work in progress, for people.
        exit_code: 75 (EX_TEMPFAIL) if a limit or a queue asked for it, 130 after Ctrl-C.
    """

    def __init__(self, cause: str, state: str) -> None:
        super().__init__(f"stopped ({cause}): {state}; the same command continues")
        self.cause, self.state = cause, state
        self.exit_code = EXIT_CTRL_C if cause == "Ctrl-C" else EXIT_RESUME


class StopRun(Exception):  # noqa: N818 - a decision, not an error
    """Raised by a reporter at an event: the worker saves and ends, and the run's record is `pruned` and says why."""


class TimeLimit:
    """A deadline that counts from when it was made."""

    def __init__(self, seconds: float, *, now: Callable[[], float] = time.monotonic) -> None:
        """Start the clock.

        Args:
            seconds: what `--time-limit` asks for.
            now: a clock, in seconds.

        Raises:
            BudgetError: `seconds` is not positive and finite.
        """
        if not 0 < seconds < float("inf"):
            raise BudgetError(f"--time-limit must be positive seconds, got {seconds:g}")
        self.seconds, self._now = seconds, now
        self._ends = now() + seconds - min(RESERVE_S, RESERVE_SHARE * seconds)

    def left_s(self) -> float:
        """Seconds until a worker must begin to save; 0 or less when the limit is reached."""
        return self._ends - self._now()

    def check_enough(self, had_s: float, task: str) -> None:
        """Refuse a limit under which every invocation would stop at the same place.

        Args:
            had_s: seconds that a worker had before it was stopped without any progress.
            task: what it could not finish, after "too short to".

        Raises:
            BudgetError: the worker had more than half of the limit. With less, the next invocation has more time: this
                one may have spent its own on a download.
        """
        if had_s > self.seconds / 2:
            raise BudgetError(
                f"--time-limit {self.seconds:g} is too short to {task}; give at least {2 * self.seconds:g}, or no limit"
            )


def check_interruptible(specs: Sequence[RunSpec]) -> None:
    """Raise BudgetError for runs that a time limit or budget cannot be applied to."""
    for spec in specs:
        if spec.evaluation.adaptive is not None:
            raise BudgetError(
                f"{spec.label.entry}: adaptive protocols take no --time-budget or --time-limit, since they cannot be "
                f"interrupted; leave evaluation.adaptive out, and score the best checkpoint afterwards"
            )


def cause_of(request: KeyboardInterrupt) -> str:
    """The name of what raised it."""
    return str(request) if isinstance(request, QueueSignal) else "Ctrl-C"


@contextmanager
def queue_signals() -> Iterator[None]:
    """Raise QueueSignal at the first of QUEUE_SIGNALS. No-op inside itself and outside the main thread."""
    is_inside = signal.getsignal(signal.SIGUSR1) in (_raise_once, _ignore)
    if is_inside or threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, _raise_once) for number in QUEUE_SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _raise_once(number: int, _frame: object) -> NoReturn:
    # Slurm sends SIGTERM after SIGUSR1: a second signal must not interrupt the saving.
    for each in QUEUE_SIGNALS:
        signal.signal(each, _ignore)
    raise QueueSignal(signal.Signals(number).name)


def _ignore(_number: int, _frame: object) -> None:
    # Not SIG_IGN, which a child process would inherit.
    return
