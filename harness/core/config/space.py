"""The `space` block of an entry: which values a search may give to its keys. Imports no torch."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

KINDS = ("uniform", "log_uniform", "integer", "log_integer", "choice")
FRACTION = 0.382


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """Values of one key; exactly one kind is given.

    Attributes:
        uniform: least and greatest number.
        log_uniform: least and greatest number, uniform in the logarithm.
        integer: least and greatest whole number, both included.
        log_integer: least and greatest whole number, both included, uniform in the logarithm.
        choice: a list of values, each as the suite would hold it.
        when: keys above this one, each with the value or values under which this key is searched. Otherwise the suite's
            value of this key holds.
    """

    __pydantic_config__ = {"extra": "forbid"}

    uniform: tuple[float, float] | None = None
    log_uniform: tuple[float, float] | None = None
    integer: tuple[int, int] | None = None
    log_integer: tuple[int, int] | None = None
    choice: tuple[Any, ...] | None = None
    when: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = [name for name in KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"must have one of {', '.join(KINDS)}, got {' and '.join(given) or 'none'}")
        if empty := [key for key in self.when if not self.allowed(key)]:
            raise ValueError(f"when must name at least one value of {empty[0]}")
        if self.choice is not None:
            if not self.choice:
                raise ValueError("choice must hold at least one value")
            if len(set(self.texts)) != len(self.choice):
                raise ValueError(f"choice names a value twice: {', '.join(self.texts)}")
            return
        low, high = self.bounds
        if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
            raise ValueError(f"{self.kind} must rise from a least to a greatest number, got [{low}, {high}]")
        if self.is_log and low <= 0:
            raise ValueError(f"{self.kind} must be positive, got [{low}, {high}]")

    @property
    def kind(self) -> str:
        return next(name for name in KINDS if getattr(self, name) is not None)

    @property
    def is_log(self) -> bool:
        return self.kind.startswith("log_")

    @property
    def is_integer(self) -> bool:
        return self.kind.endswith("integer")

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest number of a parameter that is no choice."""
        low, high = getattr(self, self.kind)
        return low, high

    @property
    def texts(self) -> tuple[str, ...]:
        """The values of a choice as texts that `--set` reads."""
        return tuple(as_text(value) for value in self.choice or ())

    @property
    def ends(self) -> tuple[str, ...]:
        """The least and the greatest number, or every choice."""
        return self.texts or tuple(as_text(value) for value in self.bounds)

    @property
    def checked(self) -> tuple[str, ...]:
        """The values whose validity a suite checks: the ends, and of real numbers one between them with a fraction."""
        if self.texts or self.is_integer:
            return self.ends
        low, high = self.bounds
        # Both ends may be whole numbers, and all that is drawn far from 0 may be, with four digits.
        smallest = min(max(low, 0.0), high)
        inward = FRACTION * min(1.0, high - low) * (1 if smallest < high else -1)
        return (*self.ends, as_text(smallest + inward))

    def allowed(self, key: str) -> tuple[str, ...]:
        """The values of another key under which this one is searched, as texts."""
        values = self.when[key]
        return tuple(as_text(value) for value in (values if isinstance(values, list) else [values]))


def as_text(value: Any) -> str:
    """A value as `--set` reads it; a number with the four digits that a table shows."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)
