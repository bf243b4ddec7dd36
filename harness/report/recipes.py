"""Which rows are of an installed suite's own model and recipe, and which were changed on the way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from harness.core.specs import Suite
from harness.report.measured import recipe_id
from harness.report.row import Row
from harness.results.published import PublishedRow, match


def marked(rows: Sequence[Row], suites: Iterable[Suite]) -> list[Row]:
    """The rows with `changed` filled in; several of one name that differ in model or recipe are told apart.

    suites holds each suite once per profile; of an entry that is in none of them nothing is known.
    """
    known = {
        (suite.name, suite.profile, entry.name): recipe_id(entry.model, entry.recipe)
        for suite in suites
        for entry in suite.entries
    }
    found = []
    recipes: dict[tuple[object, ...], set[str | None]] = {}
    for row in rows:
        own = known.get((row.suite or "", row.profile or "", row.entry))
        row = replace(row, changed=None if own is None else own != row.recipe_id)
        recipes.setdefault(_name(row), set()).add(row.recipe_id)
        found.append(row)
    return [replace(row, several_recipes=len(recipes[_name(row)]) > 1) for row in found]


def recipes_of(row: PublishedRow, suites: Iterable[Suite]) -> set[str]:
    """The recipe_id of every entry that stands for a published row."""
    return {
        recipe_id(entry.model, entry.recipe)
        for suite in suites
        for entry in suite.entries
        if match([row], entry.published, metric=row.metric, split=row.split)
    }


def _name(row: Row) -> tuple[object, ...]:
    return (row.suite, row.entry, row.profile, row.changed)
