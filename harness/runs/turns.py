"""One command at a time plans the runs of an entry; others wait for it, say so, and follow the plan it made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from harness.core.deadline import Leg
from harness.core.errors import BusyError
from harness.results.store import Store

WAIT_S = 600.0
"""How long another process may take to plan the same runs; a leg waits for as long as it lasts."""

Note = Callable[[str], None]


class WaitedError(BusyError):
    """The leg was over before another process had planned the same. run_id: what both plan, without its seed."""

    def __init__(self, message: str, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


def silent(_: str) -> None:
    """A note that nobody reads."""


@contextmanager
def alone(store: Store, seedless_id: str, leg: Leg | None, note: Note) -> Iterator[None]:
    """Hold all plans of an entry: calibrations for two budgets would slow each other down.

    Raises WaitedError where the leg ends before another process lets go, BusyError where that takes WAIT_S without a
    leg, StoreError where the disk refuses.
    """
    with ExitStack() as held:
        try:
            held.enter_context(store.lock(seedless_id, doing="planning"))
        except BusyError:
            note(f"waiting for another command that plans the same: {seedless_id}")
            wait_s = WAIT_S if leg is None else max(0.0, leg.left_s())
            try:
                held.enter_context(store.lock(seedless_id, wait_s=wait_s, doing="planning"))
            except BusyError as busy:
                if leg is None:
                    raise
                raise WaitedError(str(busy), seedless_id) from None
        yield
