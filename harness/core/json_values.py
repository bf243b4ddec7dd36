"""JSON text into checked dataclasses, with errors that name the path of the wrong value."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import PlainSerializer, TypeAdapter, ValidationError, WrapValidator

from harness.core.hashing import without_digest
from harness.core.messages import cut, printable_value, sentence, short, shown

T = TypeVar("T")

# `__pydantic_config__` of a dataclass that is read from a file: keys that a newer version wrote are ignored.
FILE_BLOCK = {"extra": "ignore", "allow_inf_nan": False}


def _null_as_nan(value: object, check: Callable[[object], float]) -> float:
    return math.nan if value is None else check(value)


def _nan_as_null(value: float) -> float | None:
    return value if math.isfinite(value) else None


# JSON has no NaN. A loss that is not finite is null in a file and NaN in memory, so that arithmetic on it stays NaN.
NullableNumber = Annotated[float, WrapValidator(_null_as_nan), PlainSerializer(_nan_as_null)]


# Building the validator of a type takes longer than most uses of it.
_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)

# The largest integer is that of a random generator's state in a checkpoint, of 128 bits. No sum, product or rounding of
# a few numbers within these bounds overflows a float.
MAX_INTEGER = 1 << 128
MAX_NUMBER = 1e100

# Levels of lists and objects; a record has nine. Recursion over a value must stay far from Python's limit.
MAX_DEPTH = 64


def read_json(text: str | bytes, *, finite: bool = True) -> Any:
    """Read JSON from outside to plain values.

    Args:
        text: one JSON document, UTF-8 if bytes.
        finite: refuse NaN, infinity and numbers beyond MAX_NUMBER.

    Returns:
        Dictionaries, lists, text, numbers, booleans and None.

    Raises:
        ValueError: the text is not JSON, a number is out of range, or more than MAX_DEPTH levels are nested.
    """
    try:
        text = text if isinstance(text, str) else text.decode("utf-8")
        value = (_BOUNDED if finite else _WITH_NAN).decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON: {error}") from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    # Level by level: a recursive walk would itself need the bound.
    level, depth = [value] if isinstance(value, dict | list) else [], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(_TOO_DEEP)
        level = [item for each in level for item in _items(each) if isinstance(item, dict | list)]
    return value


_TOO_DEEP = f"not valid JSON: nested more than {MAX_DEPTH} levels deep"


def _items(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _integer(digits: str) -> int:
    # int() refuses more than 4,300 digits with an error of its own.
    if len(digits) > 40 or abs(int(digits)) >= MAX_INTEGER:
        raise ValueError(f"the number {short(digits)} is out of range")
    return int(digits)


def _number(digits: str) -> float:
    # float() reads 1e999 as infinity without an error.
    value = float(digits)
    if abs(value) > MAX_NUMBER:
        raise ValueError(f"the number {short(digits)} is out of range")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


_BOUNDED = json.JSONDecoder(parse_int=_integer, parse_float=_number, parse_constant=_no_constant)
_WITH_NAN = json.JSONDecoder(parse_int=_integer)


def parse_json(cls: type[T], text: str | bytes) -> T:
    """Read a value of a dataclass or other type from JSON text, without conversions such as "1" to 1.

    Texts become `printable`.

    Args:
        cls: the type to read.
        text: one JSON document.

    Returns:
        The checked value.

    Raises:
        ValueError: see `read_json`, or a value does not fit; the message names its path.
    """
    # Not pydantic's own reader, which takes any integer of up to 4,300 digits.
    return parse_value(cls, printable_value(read_json(text)))


def parse_stamped(cls: type[T], text: str | bytes) -> T:
    """`parse_json` of a file that the harness wrote `with_digest`; older ones have none.

    Args:
        cls: the type to read.
        text: the content of the file.

    Returns:
        The checked value.

    Raises:
        ValueError: the content does not fit its digest, or see `parse_json`.
    """
    return parse_value(cls, printable_value(without_digest(read_json(text))))


def parse_value(cls: type[T], value: Any) -> T:
    """`parse_json` of a value that was read already: dictionaries, lists, text, numbers and null."""
    try:
        # Through text: pydantic's strict mode takes a list for a tuple from JSON only.
        parsed: T = _adapter(cls).validate_json(json.dumps(value), strict=True)
        return parsed
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None


def first_problem(error: ValidationError) -> str:
    """The first problem in plain English: `scores.0.tally.num_targets must be a whole number, got '7'`."""
    return cut(_first_problem(error), 300)


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    # A key may be as long as the file.
    path = cut(".".join(str(part) for part in problem["loc"]), 100) or "the value"
    kind = problem["type"]
    if kind == "missing":
        return f"{path} is missing"
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{path} is unknown"
    if kind == "literal_error":
        return f"{path} must be {problem['ctx']['expected']}, got {shown(problem['input'])}"
    if kind == "value_error":
        message = problem["msg"].removeprefix("Value error, ")
        if message.startswith("must "):
            return f"{path} {message}"
        return f"{path}: {message}" if problem["loc"] else message
    if kind == "json_invalid":
        return f"not valid JSON: {problem['ctx']['error']}"
    return sentence(problem, path)
