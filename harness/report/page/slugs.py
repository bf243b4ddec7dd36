"""Names for links and figures from titles."""

from __future__ import annotations

import re
from collections.abc import Iterable

_MOST = 72


def slugs(titles: Iterable[str]) -> list[str]:
    """A name of small letters, digits and hyphens for each title; equal ones are numbered.

    A long one lacks its middle: the metric and the split are at its end.
    """
    found: list[str] = []
    for title in titles:
        name = start = _shorten(re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")) or "unnamed"
        number = 2
        while name in found:
            name, number = f"{start}-{number}", number + 1
        found.append(name)
    return found


def _shorten(name: str) -> str:
    if len(name) <= _MOST:
        return name
    half = _MOST // 2
    # Whole words only, where there are any.
    head, tail = name[:half], name[-half:]
    return f"{head.rpartition('-')[0] or head}-{tail.partition('-')[2] or tail}"
