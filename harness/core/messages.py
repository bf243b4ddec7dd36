"""Parts of error messages: near names, values as a person wrote them, and pydantic's errors in plain English."""

from __future__ import annotations

import difflib
import json
import re
import traceback
from collections.abc import Iterable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from harness.core.errors import HarnessError, named_path

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

_MIN_PREFIX = 3  # letters of a beginning that are enough to guess the rest: one or two fit too many names


def near(name: str, known: Iterable[str], *, max_listed: int = 16) -> str:
    """End of an error message about an unknown name.

    Args:
        name: as a person wrote it.
        known: every valid name; one that occurs twice counts once.
        max_listed: names to list if none is near: an error is a line that a person reads to its end.

    Returns:
        ` Did you mean 'x'?`, or a list of the known names if none is near. It begins with a space.
    """
    names = sorted({*known})
    close = nearest(name, names)
    if close is not None:
        return f" Did you mean '{close}'?"
    listed = ", ".join(names[:max_listed]) + (", ..." if len(names) > max_listed else "")
    return f" Known: {listed}." if names else " There are none."


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that a person probably meant; None if none is near.

    Args:
        name: as a person wrote it.
        known: every valid name.
    """
    names = sorted({*known})
    # One name: a list of guesses makes a person choose among things they did not mean.
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if not close and len(name) >= _MIN_PREFIX:
        close = [each for each in names if each.startswith(name)][:1]
    if not close:
        # The same letters in another spelling: AWD_LSTM, awdlstm.
        by_letters = {_letters(each): each for each in names if _letters(each)}
        close = [by_letters[each] for each in difflib.get_close_matches(_letters(name), by_letters, n=1, cutoff=0.7)]
    return close[0] if close else None


def _letters(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


# Control characters, separators of lines, marks that reverse the direction of text, and halves of surrogate pairs.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")


def control_character(text: str) -> str | None:
    """The first character that must not reach a terminal or a document, as `U+001B`; None if there is none."""
    match = _CONTROL.search(text)
    return f"U+{ord(match[0]):04X}" if match else None


def printable(text: str) -> str:
    """Text from outside as one line that any terminal, document or spreadsheet can show.

    White space becomes a blank, any other control character a replacement character: an escape sequence in a file could
    otherwise clear or recolour the reader's terminal.
    """
    return _CONTROL.sub(lambda match: " " if match[0].isspace() else "\N{REPLACEMENT CHARACTER}", text)


def printable_lines(text: str) -> str:
    """`printable` text of several lines."""
    return "\n".join(printable(line) for line in text.split("\n"))


def printable_value(value: Any) -> Any:
    """A JSON value with `printable` applied to each text in it, keys included."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(key): printable_value(item) for key, item in value.items()}
    return [printable_value(item) for item in value] if isinstance(value, list) else value


def one_line(text: str) -> str:
    """`printable` text whose runs of white space are one blank."""
    return " ".join(printable(text).split())


def count(number: int, noun: str) -> str:
    """A number with its noun: `1 run`, `2 runs`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def cut(text: str, most: int) -> str:
    """`one_line` text of at most `most` characters: a message repeats no more of what a file may hold."""
    text = one_line(text[: 4 * most])
    return text if len(text) <= most else text[: most - 3] + "..."


def short(text: str) -> str:
    """A name from a file, safe to print, in at most 40 characters."""
    return cut(text, 40)


def shown(value: Any) -> str:
    """A value as a person writes it in a file, cut to 60 characters."""
    if isinstance(value, str):
        return cut(f"'{value}'", 60)
    return cut("null" if value is None else json.dumps(value, ensure_ascii=False), 60)


def reason(error: BaseException, *, with_path: bool = False) -> str:
    """Why something failed, in one line: `Permission denied`. The class of an error says nothing to a person.

    Args:
        error: any exception, whichever library raised it.
        with_path: begin with the file that an error of the system names.

    Returns:
        At most 300 characters that can be printed.
    """
    if isinstance(error, KeyError) and error.args:
        text = f"{error.args[0]!r} is missing"
    elif isinstance(error, MemoryError):
        text = "out of memory"
    else:
        text = (error.strerror if isinstance(error, OSError) else None) or str(error) or "no reason is given"
    path = named_path(error) if with_path and isinstance(error, OSError) else None
    return cut(text if path is None else f"{path}: {text}", 300)


def crash(error: BaseException) -> str:
    """What happened and where, in one line, for an exception that nobody expected; the log has its traceback.

    The place is the innermost one outside of installed libraries: the code that a reader can change.
    """
    if isinstance(error, HarnessError | OSError | MemoryError):
        return reason(error, with_path=True)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    place = f" in {'/'.join(Path(own[-1].filename).parts[-2:])}:{own[-1].lineno}" if own else ""
    return cut(f"{type(error).__name__}{place}: {reason(error)}", 300)


def sentence(error: Mapping[str, Any], path: str) -> str:
    """One of pydantic's errors in plain English.

    Args:
        error: an item of `ValidationError.errors()`.
        path: dotted path of the value.

    Returns:
        `path must be a whole number, got 'x'`, and the like.
    """
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
        return isfinite(float(text))
    except ValueError:
        return False
