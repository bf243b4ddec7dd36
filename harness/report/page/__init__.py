"""A static page of a results folder: what its records say, as tables and charts that open without a network.

`site` builds the page and keeps it current, `figures` writes one of its charts. `verdicts`, `boards`, `curves`,
`front`, `ceilings`, `pairs`, `runs` and `traces` say what a view shows and need no library of charts, so tests hold
their numbers against the records. `charts` turns it into Altair charts, `drawing` into SVG, and `render` into HTML;
these need the extra `report`.
"""

__all__ = ["extra", "figures", "site"]
