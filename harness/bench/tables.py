"""Markdown tables of benchmark rows, and the states a row can have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.report import NOT_APPLICABLE, grid

OK, FAILED, UNAVAILABLE = "ok", "failed", "unavailable"


def table(
    body: Sequence[Sequence[str]],
    headings: Sequence[str],
    *,
    num_names: int,
    errors: Iterable[tuple[str, str | None]],
) -> str:
    """A Markdown table with the reasons of failures below it.

    Args:
        body: cells of each row.
        headings: one per column.
        num_names: leading columns of names, aligned left; the others are numbers.
        errors: label and reason of each row; equal lines are printed once.
    """
    aligns = ["left"] * num_names + ["right"] * (len(headings) - num_names)
    lines = dict.fromkeys(f"{label}: {error}" for label, error in errors if error is not None)
    return grid(body, headings, aligns) + "".join(f"\n{line}\n" for line in lines)


def number(value: float | None, form: str) -> str:
    """A number in a format specification, or a dash for None."""
    return NOT_APPLICABLE if value is None else f"{value:{form}}"


def megabytes(num_bytes: int | None) -> float | None:
    return None if num_bytes is None else num_bytes / 1e6
