"""The charts of a page by name: drawn for the page, or written for a paper."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import HarnessError
from harness.core.messages import near
from harness.report.leaderboard import read_leaderboard
from harness.report.page.boards import boards
from harness.report.page.site import check_extra

if TYPE_CHECKING:
    from markupsafe import Markup

    from harness.report.leaderboard import Leaderboard
    from harness.report.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart: what it shows, its Vega-Lite, and how it looks on the page."""

    title: str
    spec: dict[str, Any]

    @property
    def svg(self) -> Markup:
        from harness.report.page.drawing import svg

        return svg(self.spec, self.title)


def draw_all(board: Leaderboard, table: Table) -> dict[str, Figure]:
    """Every chart of a page's index, by name.

    Args:
        board: the records.
        table: of the board.
    """
    from harness.report.page import charts
    from harness.report.page.drawing import spec_of

    figures = {}
    for each in boards(table):
        chart = charts.ranking(each)
        if chart is not None:
            figures[each.key] = Figure(each.heading, spec_of(chart))
    return figures


def write_figure(results: Path, name: str, out: Path) -> str:
    """Write one chart of a results folder.

    Args:
        results: the folder of the records.
        name: of the chart.
        out: file to write; its ending is .svg, .pdf or .png.

    Returns:
        The chart's title.

    Raises:
        HarnessError: no such chart, unknown ending, or the extra `report` is not installed.
        StoreError: there is no record, or the file cannot be written.
    """
    check_extra()
    from harness.report.page import drawing

    board = read_leaderboard(results)
    board.check_not_empty()
    figures = draw_all(board, board.table())
    if name not in figures:
        raise HarnessError(f"{results}: has no figure '{name}'.{near(name, figures, max_listed=len(figures))}")
    drawing.write(figures[name].spec, out)
    return figures[name].title
