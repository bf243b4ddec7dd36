"""The charts of a page by name: drawn for the page, or written for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import HarnessError
from harness.core.messages import count, cut, nearest
from harness.report.leaderboard import read_leaderboard
from harness.report.page.content import Content, Machine, gather
from harness.report.page.curves import AXES
from harness.report.page.extra import check_extra
from harness.report.page.front import COSTS

if TYPE_CHECKING:
    from markupsafe import Markup

    from harness.report.page.drawing import Spec


class UnknownFigureError(HarnessError):
    """No figure has the name; `known` has all names if none is near."""

    def __init__(self, message: str, known: Sequence[str]) -> None:
        super().__init__(message)
        self.known = known


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart: what it shows, its Vega-Lite, and how it looks on the page."""

    title: str
    spec: Spec

    @property
    def svg(self) -> Markup:
        from harness.report.page.drawing import svg

        return svg(self.spec, self.title)


def draw_all(content: Content) -> dict[str, Figure]:
    """Every chart of a page's index, by name."""
    from harness.report.page.charts import curves, front, pairs, rankings
    from harness.report.page.drawing import spec_of

    drawn: dict[str, tuple[str, Any]] = {}
    for board in content.boards:
        drawn[board.key] = board.heading, rankings.ranking(board)
    for panel in content.panels:
        for axis in filter(panel.known, AXES):
            title = f"{panel.dataset}: validation losses along {axis}"
            drawn[f"{panel.key}-{axis}"] = title, curves.curves(panel, axis)
    for each in content.tradeoffs:
        for cost in filter(each.known, COSTS):
            drawn[f"cost-{each.key}-{cost}"] = f"{each.heading}, against {COSTS[cost][0]}", front.tradeoff(each, cost)
    # Of all machines: a backend has one colour in every chart.
    backends = sorted({each.backend for machine in content.machines for each in machine.timings})
    for machine in content.machines:
        for name, (title, chart) in _kernels(machine, backends).items():
            drawn[f"{machine.key}-{name}"] = f"{machine.device}: {title}", chart
    for pair in content.pairs:
        title = f"{pair.comparison.a} less {pair.comparison.b} along the text"
        drawn[pair.key] = title, pairs.difference(pair)
    return {
        name: Figure(cut(title, 160), spec_of(chart)) for name, (title, chart) in drawn.items() if chart is not None
    }


def _kernels(machine: Machine, backends: Sequence[str]) -> dict[str, tuple[str, Any]]:
    from harness.report.page.charts import kernels

    found: dict[str, tuple[str, Any]] = {"roofline": ("roofline", kernels.roofline(machine.newest, backends))}
    for op, timings in machine.by_op.items():
        found[f"{op}-bandwidth"] = f"{op}, bytes per second", kernels.bandwidth(timings, backends)
        found[f"{op}-speedup"] = f"{op}, speed over the chain of torch operations", kernels.speedups(timings, backends)
        found[f"{op}-samples"] = f"{op}, raw samples", kernels.strips(timings, backends)
    found["history"] = "medians over sessions", kernels.history(machine.timings, backends)
    return found


def write_figure(results: Path, name: str, out: Path) -> str:
    """Write one chart of a results folder.

    Args:
        results: the folder of the records.
        name: of the chart.
        out: file to write; its ending is .svg, .pdf or .png.

    Returns:
        The chart's title.

    Raises:
        HarnessError: no such chart (UnknownFigureError), unknown ending, or the extra `report` is not installed.
        StoreError: there is no record, or the file cannot be written.
    """
    check_extra()
    from harness.report.page import drawing

    board = read_leaderboard(results)
    board.check_not_empty()
    figures = draw_all(gather(board))
    if name not in figures:
        close = nearest(name, figures)
        hint = f" Did you mean '{close}'?" if close else f" It has {count(len(figures), 'figure')}."
        raise UnknownFigureError(f"{results}: has no figure '{name}'.{hint}", () if close else tuple(figures))
    drawing.write(figures[name].spec, out)
    return figures[name].title
