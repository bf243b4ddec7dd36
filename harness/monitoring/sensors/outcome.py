"""How a sampler ended, as its parent found it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """`status` "ok", "died", "hung" or "not started", with the reason and what the sampler last told."""

    status: str
    reason: str | None = None
    sensors: dict[str, Any] = field(default_factory=dict)
    cpu_seconds: float | None = None
