"""What installed packages add to the tables of the harness. Here, because every package may import from this one."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import metadata

# Each is an entry point group, `lm_harness.models` and so on. docs/extending.md says what an entry names.
TABLES = ("models", "datasets", "metrics", "sensors", "kernels", "formats")


@cache
def every(table: str) -> dict[str, metadata.EntryPoint]:
    """Entry points of a table's group by name."""
    return {point.name: point for point in metadata.entry_points(group=f"lm_harness.{table}")}


def added(table: str, known: Iterable[str] = ()) -> dict[str, str]:
    """Entries for a table whose values are import paths.

    Args:
        table: one of TABLES.
        known: names that the table has itself, which no package can replace.

    Returns:
        Name -> `module:attribute`, as the package declares it.
    """
    return {name: point.value for name, point in every(table).items() if name not in known}
