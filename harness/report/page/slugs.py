"""Names for links and figures from titles."""

from __future__ import annotations

import re
from collections.abc import Iterable

_MOST = 60


def slugs(titles: Iterable[str]) -> list[str]:
    """A name of small letters, digits and hyphens for each title; equal ones are numbered."""
    found: list[str] = []
    for title in titles:
        name = start = re.sub(r"[^a-z0-9]+", "-", title.lower())[:_MOST].strip("-") or "unnamed"
        number = 2
        while name in found:
            name, number = f"{start}-{number}", number + 1
        found.append(name)
    return found
