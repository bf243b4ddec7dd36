"""Words for what is wrong with a suite: near names, values as the user wrote them, pydantic's findings in English."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any

_MUST_BE = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a whole number within 64 bits",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a block of keys",
    "dataclass_type": "a block of keys",
    "dataclass_exact_type": "a block of keys",
}

MIN_PREFIX = 3
"""Letters of a name's beginning that are enough to guess the rest."""

MAX_LISTED = 16
"""Names listed where none is near."""


def near(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?`, or the known names where none is near; begins with a space."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if not close and len(name) >= MIN_PREFIX:
        close = [each for each in names if each.startswith(name)][:1]
    if not close:  # another spelling of the same letters: AWD_LSTM, awdlstm
        same = {"".join(c for c in each.lower() if c.isalnum()): each for each in names}
        close = difflib.get_close_matches("".join(c for c in name.lower() if c.isalnum()), same, n=1, cutoff=0.7)
        close = [same[each] for each in close]
    if close:
        return f" Did you mean '{close[0]}'?"
    listed = ", ".join(names[:MAX_LISTED]) + (", ..." if len(names) > MAX_LISTED else "")
    return f" Known: {listed}." if names else " There are none."


def one_line(text: str) -> str:
    """Text from a file made safe to print: no line breaks, no control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def short(text: str) -> str:
    """A name from a file, safe to print, in at most 40 characters."""
    text = one_line(text)
    return text if len(text) <= 40 else text[:37] + "..."


def shown(value: Any) -> str:
    """A value as one would write it in the file, cut to 60 characters."""
    if isinstance(value, str):
        text = f"'{value}'"
    else:
        text = "null" if value is None else json.dumps(value, ensure_ascii=False)
    text = one_line(text)
    return text if len(text) <= 60 else text[:57] + "..."


def sentence(error: Mapping[str, Any], path: str) -> str:
    """One of pydantic's type findings about the value at `path`, in plain English."""
    kind, value = str(error["type"]), error.get("input")
    if kind in _MUST_BE:
        got = shown(value)
        if isinstance(value, str) and kind.startswith(("int", "float", "bool")) and _reads_as_scalar(value):
            got = f"the text {got}: remove the quotes"
        elif kind == "string_type" and isinstance(value, int | float):
            got = f"{got}: write it in quotes"
        return f"{path} must be {_MUST_BE[kind]}, got {got}"
    if kind == "too_long":
        return f"{path} must hold at most {error['ctx']['max_length']} values, got {error['ctx']['actual_length']}"
    return f"{path} is not valid: {error['msg']}"


def _reads_as_scalar(text: str) -> bool:
    if text in ("true", "false"):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True
