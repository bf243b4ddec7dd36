"""The text of the generated leaderboard: the paper's rows with ours beside them, then every ranking in full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.specs import Suite
from harness.report.choice import usual
from harness.report.columns import (
    COLUMNS,
    HEADING_COLUMNS,
    NOT_APPLICABLE,
    cells,
    difference_text,
    params_text,
    seeds_text,
    value_text,
    without,
)
from harness.report.formats.github import escape, grid
from harness.report.kernels import leaderboard_section
from harness.report.measured import Records
from harness.report.recipes import recipes_of
from harness.report.row import FINISHED, PUBLISHED, Row, metric_title
from harness.report.table import Table, build
from harness.results.published import PublishedRow, dataset_title, match, paper_rows

FULL_PROFILE = "full"

PAPER_COLUMNS = (
    ("Task", "left"),
    ("Dataset", "left"),
    ("Metric", "left"),
    ("Value", "right"),
    ("Model", "left"),
    ("Ours", "right"),
    ("Difference", "right"),
    ("Params", "right"),
    ("Seeds", "right"),
    ("Profile", "left"),
    ("Remark", "left"),
)


def leaderboard(
    records: Records,
    published: Sequence[PublishedRow],
    *,
    suites: Sequence[Suite],
    regenerate: str,
    full_profile: str = FULL_PROFILE,
) -> str:
    """Markdown that depends on its arguments alone: no clock, no machine, no order of files.

    suites are the installed ones, each once per profile: a paper's row without a value says whether one could make
    it, and a run of another model or recipe than theirs is marked.
    regenerate is the command that writes this file anew. full_profile names the paper's own recipes.
    """
    by_id = sorted(records, key=lambda item: item[0].run_id)
    table = build(by_id, published, every_published=True, suites=suites)
    full = [suite for suite in suites if suite.profile == full_profile]
    lines = ["# Leaderboard", ""]
    lines += [f"Generated from the records beside it; do not edit. `{regenerate}` writes it anew.", ""]
    lines += ["## The paper's rows", ""]
    lines += ["Merity, Keskar and Socher 2018, arXiv:1803.08240: its values as published, and ours beside each.", ""]
    lines += [_paper_section(table, published, _Reasons(published, full, full_profile))]
    for rows in table.groups():
        lines += [f"## {escape(table.heading(rows))}", "", _ranking(rows)]
    kernels = leaderboard_section(record for record, _ in by_id)
    return "\n".join([*lines, kernels] if kernels else lines)


@dataclass(frozen=True, slots=True)
class _Reasons:
    """Why a row of the paper has no value of ours from the full recipe, derived from what there is.

    suites are the installed ones under the full profile.
    """

    published: Sequence[PublishedRow]
    suites: Sequence[Suite]
    full_profile: str

    def remark(self, row: PublishedRow, ours: Sequence[Row]) -> str:
        """ours: every row of ours that names this published one, whatever its profile and status."""
        full = [found for found in ours if self.is_full(found)]
        if any(found.status == FINISHED for found in full):
            return "full recipe"
        if full:
            return _failure(full[0])
        finished = any(found.status == FINISHED for found in ours)
        if ours and not finished:
            return _failure(ours[0])
        suites = self._suites_for(row)
        if not suites and not finished:
            of_dataset = any(suite.dataset.get("name") == row.dataset for suite in self.suites)
            what = "suite with an entry for this row" if of_dataset else f"suite for {dataset_title(row.dataset)}"
            return f"no {what} is installed"
        where = f"; suite {', '.join(suites)} has it" if suites else ""
        return f"no finished run of the full recipe among these records{where}"

    def is_full(self, row: Row) -> bool:
        """Whether a row of ours is of an installed suite's full recipe for the published row that it names.

        Names prove nothing: a recipe changed on the command line keeps its own, and anybody's suite may use them.
        """
        if row.profile != self.full_profile:
            return False
        named = [known for known in self.published if known.id == row.published_id]
        return any(row.recipe_id in recipes_of(known, self.suites) for known in named)

    def profile(self, row: Row) -> str:
        changed = row.profile == self.full_profile and not self.is_full(row)
        return f"{row.profile}, changed" if changed else row.profile or NOT_APPLICABLE

    def _suites_for(self, row: PublishedRow) -> list[str]:
        found = set()
        for suite in self.suites:
            named = [entry.published for entry in suite.entries]
            if any(match([row], name, metric=row.metric, split=row.split) for name in named):
                found.add(suite.name)
        return sorted(found)


def _paper_section(table: Table, published: Sequence[PublishedRow], reasons: _Reasons) -> str:
    body = []
    for row in paper_rows(published):
        ours = [found for found in table.rows if found.published_id == row.id and found.status != PUBLISHED]
        body.append(_paper_line(row, ours, reasons))
    return grid(body, [name for name, _ in PAPER_COLUMNS], [align for _, align in PAPER_COLUMNS])


def _paper_line(row: PublishedRow, ours: Sequence[Row], reasons: _Reasons) -> list[str]:
    ranked = [found for found in ours if found.rank is not None]
    full = [found for found in ranked if reasons.is_full(found)]
    shown = next(iter(full or ranked), None)
    start = [
        row.task,
        dataset_title(row.dataset),
        metric_title(row.metric, row.split),
        f"{row.value:.{row.decimals}f}",
        row.model,
    ]
    remark = reasons.remark(row, ours)
    if shown is None:
        status = next((found.status for found in ours if found.value is None), "none yet")
        return [*start, status, *[NOT_APPLICABLE] * 4, remark]
    cells = [value_text(shown), difference_text(shown), params_text(shown), seeds_text(shown), reasons.profile(shown)]
    return [*start, *cells, remark]


def _ranking(rows: tuple[Row, ...]) -> str:
    columns = usual(rows, without(COLUMNS, HEADING_COLUMNS))
    return grid(cells(rows, columns), [name for name, _, _ in columns], [align for _, _, align in columns])


def _failure(row: Row) -> str:
    verb = {"interrupted": "was interrupted"}.get(row.status, row.status)
    return f"the run of profile {row.profile} {verb}: {row.error}"
