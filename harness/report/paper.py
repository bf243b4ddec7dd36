"""The paper's rows with our values: which run is shown for each row, and why a row has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.metrics import metric_named
from harness.report.columns import NOT_APPLICABLE, difference_text, params_text, seeds_text, value_text
from harness.report.formats.github import grid
from harness.report.row import FINISHED, PUBLISHED, Row
from harness.results.published import PublishedRow, dataset_title, match, paper_rows

if TYPE_CHECKING:
    from harness.core.specs import Suite
    from harness.report.table import Table

FULL_PROFILE = "full"  # name of the paper's recipes in every suite that comes with the harness

_HEADINGS = ("Task", "Dataset", "Metric", "Value", "Model", "Ours", "Difference", "Params", "Seeds", "Profile",
             "Remark")  # fmt: skip
_ALIGNS = ("left", "left", "left", "right", "left", "right", "right", "right", "right", "left", "left")


@dataclass(frozen=True, slots=True)
class PaperLine:
    """A row of the paper, the run of ours that is shown for it, and why it has no value of the full recipe.

    `best` is None without a ranked value; `status` then says how far the runs came. `is_full`: `best` is of the full
    recipe.
    """

    published: PublishedRow
    best: Row | None
    is_full: bool
    status: str
    remark: str


def paper_lines(table: Table, published: Sequence[PublishedRow], suites: Sequence[Suite]) -> list[PaperLine]:
    """The paper's rows, each with the best run of its full recipe, else with the best run.

    Args:
        table: rows of every record.
        published: rows of the paper and others.
        suites: the installed ones, each once per profile; their full profiles have the recipes that reproduce a row.
    """
    full = [suite for suite in suites if suite.profile == FULL_PROFILE]
    rows_of = {(suite.name, entry.name): entry.published for suite in full for entry in suite.entries}

    def is_full(ours: Row, row: PublishedRow) -> bool:
        # `changed` compares the recipe; names alone prove nothing, since any suite may use them.
        compared = rows_of.get((ours.suite or "", ours.entry))
        same = match([row], compared, metric=row.metric, split=row.split) is not None
        return ours.profile == FULL_PROFILE and ours.changed is False and same

    lines = []
    for row in paper_rows(published):
        ours = [each for each in table.rows if each.published_id == row.id and each.status != PUBLISHED]
        complete = [each for each in ours if is_full(each, row)]
        # Rows are in order of rank, so the first one is the best.
        best = next((each for each in (*complete, *ours) if each.rank is not None), None)
        status = next((each.status for each in ours if each.value is None), "none yet") if best is None else best.status
        lines.append(PaperLine(row, best, best in complete, status, _remark(ours, complete)))
    return lines


def paper_section(table: Table, published: Sequence[PublishedRow], suites: Sequence[Suite]) -> str:
    """Markdown of `paper_lines`, with the same arguments."""
    return grid([_cells(line) for line in paper_lines(table, published, suites)], _HEADINGS, _ALIGNS)


def _cells(line: PaperLine) -> list[str]:
    row, best = line.published, line.best
    title = metric_named(row.metric).title_for(row.split)
    start = [row.task, dataset_title(row.dataset), title, f"{row.value:.{row.decimals}f}", row.model]
    if best is None:
        return [*start, line.status, *[NOT_APPLICABLE] * 4, line.remark]
    profile = f"{best.profile}{', changed' if best.profile == FULL_PROFILE and not line.is_full else ''}"
    cells = [value_text(best), difference_text(best), params_text(best), seeds_text(best), profile]
    return [*start, *cells, line.remark]


def _remark(ours: Sequence[Row], full: Sequence[Row]) -> str:
    """Why a row of the paper has no value of the full recipe; `ours`: every run compared with it."""
    if any(each.status == FINISHED for each in full):
        return "full recipe"
    if full or (ours and all(each.status != FINISHED for each in ours)):
        [row, *_] = full or ours
        verb = "was interrupted" if row.status == "interrupted" else row.status
        return f"the run of profile {row.profile} {verb}: {row.error}"
    return "no finished run of the full recipe among these records"
