"""JSON text into checked dataclasses, with errors that name the path of the wrong value."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import PlainSerializer, TypeAdapter, ValidationError, WrapValidator

from harness.core.messages import sentence, shown

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


def parse_json(cls: type[T], text: str | bytes) -> T:
    """Read a value of a dataclass or other type from JSON text, without conversions such as "1" to 1.

    Args:
        cls: the type to read.
        text: one JSON document.

    Returns:
        The checked value.

    Raises:
        ValueError: the text is not JSON, or a value does not fit; the message names its path.
    """
    try:
        value: T = _adapter(cls).validate_json(text, strict=True)
        return value
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None


def parse_value(cls: type[T], value: Any) -> T:
    """`parse_json` of a value that is JSON already: dictionaries, lists, text, numbers and null."""
    # Through text: pydantic's strict mode takes a list for a tuple from JSON only.
    return parse_json(cls, json.dumps(value))


def first_problem(error: ValidationError) -> str:
    """The first problem in plain English: `scores.0.tally.num_targets must be a whole number, got '7'`."""
    problem = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in problem["loc"]) or "the value"
    kind = problem["type"]
    if kind == "missing":
        return f"{path} is missing"
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{path} is unknown"
    if kind == "literal_error":
        return f"{path} must be {problem['ctx']['expected']}, got {shown(problem['input'])}"
    if kind == "value_error":
        message = problem["msg"].removeprefix("Value error, ")
        return f"{path} {message}" if message.startswith("must ") else f"{path}: {message}"
    if kind == "json_invalid":
        return f"not valid JSON: {problem['ctx']['error']}"
    return sentence(problem, path)
