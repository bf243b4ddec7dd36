"""The interface of a sensor: what it is opened on, what a reading holds, and how it fails.

The sampler process imports this module, so it uses neither numpy nor pydantic: both cost more to import than an hour
of sampling costs to do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

import psutil

Nature = Literal["level", "peak", "interval", "counter", "bits"]
# How a quantity behaves between two readings:
# level     a momentary value; linear from one reading to the next
# peak      the highest value so far; constant until the next reading
# interval  a mean over the time since the previous reading; a step
# counter   never falls unless it is reset; only differences have a meaning
# bits      a set of named conditions; constant until the next reading

Detail = str | float | int | None | list[str]


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a sensor reads under one name.

    Attributes:
        unit, nature: of the values, as tables print it; behaviour between two readings.
        bit_names: for `bits`, the name of each bit value.
        energy, power: for a counter of joules, the name under which a phase reports them, and the quantity in watts to
            integrate where the counter fails.
        sensor: name of the sensor, filled in by the registry.
    """

    unit: str
    nature: Nature
    bit_names: Mapping[int, str] = field(default_factory=dict)
    energy: str | None = None
    power: str | None = None
    sensor: str = ""


class SensorUnavailable(Exception):  # noqa: N818 - an expected answer, not an error
    """The sensor cannot be opened here; the message says why."""


class SensorLost(Exception):  # noqa: N818 - an expected answer, not an error
    """The sensor will not answer again, for example a GPU that fell off its bus; the message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """The process tree and GPU to measure.

    `gpu_uuid` may lack its prefix. "auto" is the only GPU; with None, a run without a GPU, no driver is loaded.
    """

    tree: ProcessTree
    gpu_uuid: str | None = None


@dataclass(slots=True)
class Reading:
    """One reading. An absent quantity was not due; one that is None could not be read, and `reasons` says why."""

    values: dict[str, float | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    @classmethod
    def failed(cls, quantities: Iterable[str], reason: str) -> Reading:
        """A reading in which every quantity is None for the same reason."""
        names = tuple(quantities)
        return cls(dict.fromkeys(names), dict.fromkeys(names, reason))

    def add(self, other: Reading) -> None:
        """Add the quantities of another reading."""
        self.values |= other.values
        self.reasons |= other.reasons


@dataclass(frozen=True, slots=True)
class SensorStatus:
    """State of one sensor: "available", "unavailable" (never opened) or "lost"; `unknown` maps quantity to reason."""

    status: str
    reason: str | None = None
    details: Mapping[str, Detail] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)


class Sensor(Protocol):
    """Reads some quantities. All calls come from one thread."""

    quantities: ClassVar[Mapping[str, Quantity]]
    guarded: ClassVar[bool]  # a call may hang, so it runs in a thread of its own
    period_s: ClassVar[float]  # least time between two readings; 0 reads at every tick of the sampler
    install_hint: ClassVar[str]  # what makes the sensor available, for `harness doctor`

    def open(self, target: Target) -> dict[str, Detail]:
        """Prepare to read; returns details of the device. Raises SensorUnavailable."""

    def read(self) -> Reading:
        """The quantities that are due. Raises SensorLost where no later call can succeed."""

    def close(self) -> None:
        """Release what `open` acquired. Never raises."""


class ProcessTree:
    """The processes under `pid`, without the calling process.

    A process stays a member when its parent ends first. One that lives for less than a second may never be listed;
    the kernel still adds its CPU time to its parent's account of ended children.
    """

    # Listing all processes reads every /proc/*/stat. It is repeated no sooner than after 500 times the CPU time it
    # took, that is, it uses at most 0.2 % of a core.
    LIST_SHARE = 500.0
    MIN_INTERVAL_S = 1.0

    def __init__(self, pid: int) -> None:
        """Raises psutil.NoSuchProcess."""
        self.root = psutil.Process(pid)
        self._members = {pid: self.root}
        self._pids = frozenset((pid,))
        self._list_at = 0.0

    @property
    def pids(self) -> frozenset[int]:
        """Process ids of the last listing; an immutable snapshot, since another thread reads it."""
        return self._pids

    def alive(self) -> bool:
        """Whether the root still runs; a zombie has ended."""
        with suppress(psutil.Error):
            return bool(self.root.is_running() and self.root.status() != psutil.STATUS_ZOMBIE)
        return False

    def members(self) -> list[psutil.Process]:
        """The processes, listed again if that is due."""
        now = time.monotonic()
        if now >= self._list_at:
            before = time.thread_time()
            self._list()
            self._list_at = now + max(self.MIN_INTERVAL_S, self.LIST_SHARE * (time.thread_time() - before))
        return list(self._members.values())

    def forget(self, process: psutil.Process) -> None:
        """Drop a process that has ended."""
        if process.pid != self.root.pid:
            self._members.pop(process.pid, None)

    def _list(self) -> None:
        try:
            children = self.root.children(recursive=True)
        except psutil.Error:
            return
        for process in children:
            # Comparing processes, not ids: the kernel reuses ids, and psutil compares start times too.
            if process.pid != os.getpid() and self._members.get(process.pid) != process:
                self._members[process.pid] = process
        self._pids = frozenset(self._members)
