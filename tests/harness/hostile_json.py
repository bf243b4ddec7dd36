"""JSON as a damaged or hostile file may hold it, at any place of a value. Not a test file."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Place = tuple[Any, ...]

DEEP = "\0deep"  # becomes 100,000 nested lists, which json.dumps could not write
EXTREMES = (10**400, -(10**400), 1 << 64, -1, 0, 1e308, -1e100, 5e-324, math.inf, math.nan, "\x1b[31m\ud800", "", DEEP)


def any_json() -> st.SearchStrategy[Any]:
    """Any small value, among them numbers and texts that no writer makes."""
    texts = st.text(max_size=4)
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.sampled_from(EXTREMES)
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2), max_leaves=3
    )


def json_text(value: Any) -> str:
    """A value of `any_json` as a file's text."""
    return json.dumps(value).replace(json.dumps(DEEP), "[" * 100_000 + "]" * 100_000)


def paths(value: Any, start: Place = ()) -> Iterator[Place]:
    """Every place inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*start, key)
        yield from paths(inner, (*start, key))


def changed(body: Any, path: Place, value: Any) -> Any:
    """A copy of a JSON value with another value at one place."""
    body = copy.deepcopy(body)
    place = body
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return body


def without(body: Any, path: Place) -> Any:
    """A copy of a JSON value without one of its places."""
    body = copy.deepcopy(body)
    place = body
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return body
