"""Messages between a benchmark and its child processes: dataclasses as lines of JSON.

Requests arrive on the child's standard input, replies leave on its standard output. pydantic checks every line.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from harness.core.messages import reason

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failure:
    """Reply of a child that cannot continue."""

    __pydantic_config__ = {"extra": "forbid"}

    error: str


def encode(message: DataclassInstance) -> str:
    """One line of JSON. NaN stays NaN (pydantic would write null), so that a diverged loss is not read as no loss."""
    return json.dumps(asdict(message)) + "\n"


def decode(kind: type[T], line: str) -> T:
    """Parse a line as a dataclass. Raises pydantic.ValidationError for any other content."""
    message: T = _adapter(kind).validate_json(line)  # type: ignore[arg-type]  # a class is hashable
    return message


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def open_reply_channel() -> TextIO:
    """Take over standard output for replies; everything else that prints goes to standard error from now on."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    return channel


def failure(error: BaseException) -> Failure:
    """An exception as a one-line reply."""
    return Failure(reason(error, with_path=True))


def exit_reason(status: int, stderr: str) -> str:
    """Describe a child that ended without a reply; the last line of its standard error is quoted."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return f"ended with status {status}" + (f": {lines[-1][:200]}" if lines else "")
