"""The record of one run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.core.specs import RunSpec

RECORD_SCHEMA = 2
"""2 added `costs`, and rows in `traces`; records of schema 1 are read as made without sensors."""


@dataclass(slots=True)
class RunRecord:
    """All that is known of one run. Written whole or not at all; read back by `store`.

    status is finished, failed or diverged. What varies with wall time stands in `seconds`, `started_at`,
    `attempts`, `timings`, `costs`, `traces` and in names ending in `_s`, `_per_s` or `seconds`; nothing else does.
    timings are rows of `harness.timing.backends`: a Timing with op, backend, case, direction and what was derived from
    it. costs is `harness.monitoring.costs.meter.Meter.account`'s, None in records made before there were sensors;
    traces are rows of
    what was sampled, thinned.
    """

    run_id: str
    spec: RunSpec
    status: str
    error: str | None = None
    started_at: str = ""
    seconds: float = 0.0
    attempts: list[dict[str, Any]] = field(default_factory=list)
    code: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] | None = None
    scores: list[dict[str, Any]] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)
    timings: list[dict[str, Any]] = field(default_factory=list)
    traces: list[dict[str, Any]] = field(default_factory=list)
    costs: dict[str, Any] | None = None
    schema: int = RECORD_SCHEMA
