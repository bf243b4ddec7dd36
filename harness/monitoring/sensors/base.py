"""What every sensor is: opened on a target, read again and again, closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from harness.monitoring.sensors.tree import ProcessTree


class SensorUnavailable(Exception):  # noqa: N818 - an answer, not an error
    """A sensor that cannot be opened here; the message says why."""


class SensorLost(Exception):  # noqa: N818 - an answer, not an error
    """A sensor that will not answer any more, a GPU that fell off its bus for one; the message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is watched: a process with its children, and a GPU by UUID, with or without its prefix.

    `gpu_uuid` "auto" is the only GPU of the machine; None is a run that uses none, whose driver is left alone.
    """

    tree: ProcessTree
    gpu_uuid: str | None = None


@dataclass(slots=True)
class Reading:
    """One reading. A quantity that is left out was not due; None was asked for and not given, `reasons` says why."""

    values: dict[str, float | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    @classmethod
    def nothing(cls, quantities: Sequence[str], reason: str) -> Reading:
        return cls(dict.fromkeys(quantities), dict.fromkeys(quantities, reason))


class Sensor(Protocol):
    """Reads some of QUANTITIES. All calls come from one thread."""

    guarded: ClassVar[bool]
    """Whether a call may hang, so that it has to be made from a thread of its own."""
    period_s: ClassVar[float]
    """Least time between two readings; 0 for one at every tick of the sampler."""

    def open(self, target: Target) -> dict[str, Any]:
        """Get ready to read; returns details fit for JSON. Raises SensorUnavailable."""

    def read(self) -> Reading:
        """The quantities due now. Raises SensorLost where no later call could succeed."""

    def close(self) -> None:
        """Give back what open took. Raises nothing."""
