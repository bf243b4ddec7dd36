"""The paper's rows with our values: which run is shown for each row, and why a row has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.metrics import metric_named
from harness.report.columns import NOT_APPLICABLE, difference_text, params_text, seeds_text, value_text
from harness.report.formats.github import grid
from harness.report.row import FINISHED, PUBLISHED, Row
from harness.report.rows import recipe_id
from harness.results.published import PublishedRow, dataset_title, match, paper_rows

if TYPE_CHECKING:
    from harness.core.specs import Suite
    from harness.report.table import Table

FULL_PROFILE = "full"  # name of the paper's recipes in every suite that comes with the harness

_HEADINGS = ("Task", "Dataset", "Metric", "Value", "Model", "Ours", "Difference", "Params", "Seeds", "Profile",
             "Remark")  # fmt: skip
_ALIGNS = ("left", "left", "left", "right", "left", "right", "right", "right", "right", "left", "left")


def paper_section(table: Table, published: Sequence[PublishedRow], suites: Sequence[Suite]) -> str:
    """Markdown of the paper's rows, each with the best run of its full recipe, else with the best run.

    Args:
        table: rows of every record.
        published: rows of the paper and others.
        suites: the installed ones, each once per profile.
    """
    recipes = _FullRecipes(published, [suite for suite in suites if suite.profile == FULL_PROFILE])
    body = []
    for row in paper_rows(published):
        ours = [each for each in table.rows if each.published_id == row.id and each.status != PUBLISHED]
        body.append(_line(row, ours, recipes))
    return grid(body, _HEADINGS, _ALIGNS)


@dataclass(frozen=True, slots=True)
class _FullRecipes:
    """The installed suites under the full profile: they decide which runs reproduce a row of the paper."""

    published: Sequence[PublishedRow]
    suites: Sequence[Suite]

    def remark(self, row: PublishedRow, ours: Sequence[Row]) -> str:
        """Why a row of the paper has no value of the full recipe; `ours`: every run compared with it."""
        full = [each for each in ours if self.is_full(each)]
        if any(each.status == FINISHED for each in full):
            return "full recipe"
        if full:
            return _failure(full[0])
        finished = any(each.status == FINISHED for each in ours)
        if ours and not finished:
            return _failure(ours[0])
        names = sorted({suite.name for suite in self.suites if self._recipe_ids(row, [suite])})
        if not names and not finished:
            of_dataset = any(suite.dataset.get("name") == row.dataset for suite in self.suites)
            missing = "suite with an entry for this row" if of_dataset else f"suite for {dataset_title(row.dataset)}"
            return f"no {missing} is installed"
        where = f"; suite {', '.join(names)} has it" if names else ""
        return f"no finished run of the full recipe among these records{where}"

    def is_full(self, row: Row) -> bool:
        """Whether a run has the full recipe of an installed suite for the published row that it is compared with.

        The recipe decides, not names: a recipe changed on the command line keeps them, and any suite may use them.
        """
        if row.profile != FULL_PROFILE:
            return False
        named = [known for known in self.published if known.id == row.published_id]
        return any(row.recipe_id in self._recipe_ids(known, self.suites) for known in named)

    def profile(self, row: Row) -> str:
        changed = row.profile == FULL_PROFILE and not self.is_full(row)
        return f"{row.profile}, changed" if changed else row.profile or NOT_APPLICABLE

    def _recipe_ids(self, row: PublishedRow, suites: Sequence[Suite]) -> set[str]:
        return {
            recipe_id(entry.model, entry.recipe)
            for suite in suites
            for entry in suite.entries
            if match([row], entry.published, metric=row.metric, split=row.split)
        }


def _line(row: PublishedRow, ours: Sequence[Row], recipes: _FullRecipes) -> list[str]:
    ranked = [each for each in ours if each.rank is not None]
    # Rows are in order of rank, so the first one is the best.
    best = next(iter([each for each in ranked if recipes.is_full(each)] or ranked), None)
    title = metric_named(row.metric).title_for(row.split)
    start = [row.task, dataset_title(row.dataset), title, f"{row.value:.{row.decimals}f}", row.model]
    remark = recipes.remark(row, ours)
    if best is None:
        status = next((each.status for each in ours if each.value is None), "none yet")
        return [*start, status, *[NOT_APPLICABLE] * 4, remark]
    cells = [value_text(best), difference_text(best), params_text(best), seeds_text(best), recipes.profile(best)]
    return [*start, *cells, remark]


def _failure(row: Row) -> str:
    verb = "was interrupted" if row.status == "interrupted" else row.status
    return f"the run of profile {row.profile} {verb}: {row.error}"
