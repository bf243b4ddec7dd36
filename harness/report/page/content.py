"""What the index of a page shows, gathered from a results folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.report.kernels import machine_text
from harness.report.page.boards import Board, boards
from harness.report.page.ceilings import Timing, newest, timings
from harness.report.page.curves import Panel, panels
from harness.report.page.front import Tradeoff, tradeoffs
from harness.report.page.pairs import Pair, pairs
from harness.report.page.slugs import slugs
from harness.report.page.verdicts import Verdict, verdicts
from harness.results.store import Store

if TYPE_CHECKING:
    from harness.report.leaderboard import Leaderboard
    from harness.report.table import Table


@dataclass(frozen=True, slots=True)
class Machine:
    """The timed kernels of one machine: every timing, oldest first, and the newest of each kernel."""

    key: str
    device: str
    timings: tuple[Timing, ...]
    newest: tuple[Timing, ...]

    @property
    def by_op(self) -> dict[str, list[Timing]]:
        """The newest timings of each op."""
        found: dict[str, list[Timing]] = {}
        for each in self.newest:
            found.setdefault(each.op, []).append(each)
        return found


@dataclass(frozen=True, slots=True)
class Content:
    """The views of an index, and the table that they show; `problems` names files that could not be read."""

    table: Table
    verdicts: list[Verdict]
    boards: list[Board]
    panels: list[Panel]
    tradeoffs: list[Tradeoff]
    machines: list[Machine]
    pairs: list[Pair]
    problems: tuple[str, ...]


def gather(board: Leaderboard, *, show_text: bool = False) -> Content:
    """Gather every view.

    Args:
        board: the records of a results folder.
        show_text: whether comparisons hold the text that was scored.
    """
    table = board.table()
    records = {record.run_id: record for record, _ in board.records}
    timed, problems = timings(records.values(), board.root)
    devices = list(dict.fromkeys(each.device for each in timed))
    machines = []
    for key, device in zip(slugs(f"kernels {machine_text(device)}" for device in devices), devices, strict=True):
        own = [each for each in timed if each.device == device]
        machines.append(Machine(key, machine_text(device).replace(" | ", ", "), tuple(own), tuple(newest(own))))
    return Content(
        table=table,
        verdicts=verdicts(board, table),
        boards=boards(table),
        panels=panels(board.records),
        tradeoffs=tradeoffs(table),
        machines=machines,
        pairs=pairs(table, records, Store(board.root), show_text=show_text),
        problems=tuple(problems),
    )
