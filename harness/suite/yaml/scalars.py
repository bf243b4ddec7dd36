"""Plain scalars under the core schema of YAML 1.2: `2e-3` is a number, `no` is text, `010` is ten."""

from __future__ import annotations

import math
import re
from typing import TypeAlias

from harness.core.messages import short

Scalar: TypeAlias = str | int | float | bool | None

_INT = re.compile(r"[-+]?[0-9][0-9_]*|0o[0-7][0-7_]*|0x[0-9a-fA-F][0-9a-fA-F_]*")
_FLOAT = re.compile(r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_MAX_DIGITS = 80


def resolve_scalar(text: str) -> Scalar:
    """The value of an unquoted scalar; `_` may group digits, as ruamel.yaml allows.

    Raises ValueError for a number beyond 64 bits, an infinity and NaN: no setting means one.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        digits = text.replace("_", "")
        base = {"0o": 8, "0x": 16}.get(digits[:2], 10)
        number = int(digits, base) if len(digits) <= _MAX_DIGITS else None
        if number is None or not -(1 << 63) <= number < 1 << 63:
            raise ValueError(f"the number {short(text)} is out of range")
        return number
    if _FLOAT.fullmatch(text):
        value = float(text.replace("_", ""))
        if math.isinf(value):
            raise ValueError(f"the number {short(text)} is out of range")
        return value
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not a finite number")
    return text
