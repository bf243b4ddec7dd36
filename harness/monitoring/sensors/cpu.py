"""CPU time and memory of a process tree, and the load of everyone else on the same cores."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psutil

from harness.monitoring.sensors import cores
from harness.monitoring.sensors.base import Reading, SensorLost, SensorUnavailable, Target

LEAST_SPAN_S = 0.2
"""CPU times come in hundredths of a second: over a shorter span a share of them would be mostly rounding."""

IDLE = ("idle", "iowait", "guest", "guest_nice")
"""Fields of a core's times that are not work; the time of guests is in `user` already."""


class Cpu:
    """Sensor of the operating system's own accounts. Memory is a sum over the tree, shared pages counted in each."""

    guarded = False
    period_s = 0.0

    def open(self, target: Target) -> dict[str, Any]:
        self._tree = target.tree
        pid = self._tree.root.pid
        try:
            self._usable = cores.usable(pid)
            self._cores = sorted(cores.allowed(pid))
        except OSError as error:
            raise SensorUnavailable(f"process {pid} cannot be read: {error.strerror}") from None
        self._lost_s = 0.0
        self._seconds = 0.0
        self._peak = 0
        self._basis: tuple[float, float, float] | None = None
        return {"usable_cores": self._usable, "allowed_cores": len(self._cores)}

    def read(self) -> Reading:
        now = time.monotonic()
        seconds, rss, peak = self._account()
        # A member that ended unseen by its parent takes its time with it; what was once counted stays counted.
        self._lost_s += max(0.0, self._seconds - (seconds + self._lost_s))
        self._seconds = seconds + self._lost_s
        self._peak = max(self._peak, rss, peak)
        reading = Reading(
            {"cpu_seconds": self._seconds, "rss_bytes": float(rss), "peak_rss_bytes": float(self._peak)},
            dict.fromkeys(("cpu_percent", "cpu_cores_used", "other_cpu_percent"), "needs two readings"),
        )
        if not rss:  # ended and not yet reaped: its time still counts, its memory is gone
            reading.values["rss_bytes"], reading.reasons["rss_bytes"] = None, "the process has ended"
            if not self._peak:
                reading.values["peak_rss_bytes"], reading.reasons["peak_rss_bytes"] = None, "the process has ended"
        self._add_rates(reading, now)
        return reading

    def close(self) -> None:
        pass

    def _account(self) -> tuple[float, int, int]:
        """CPU seconds of the members and of their ended children, bytes resident, and the largest member's peak."""
        seconds, rss, peak = 0.0, 0, 0
        for process in self._tree.members():
            try:
                times = process.cpu_times()
                seconds += times.user + times.system + times.children_user + times.children_system
                rss += process.memory_info().rss
                peak = max(peak, _high_water(process.pid))
            except psutil.ZombieProcess:
                continue
            except psutil.NoSuchProcess:
                if process.pid == self._tree.root.pid:
                    raise SensorLost("the process ended") from None
                self._tree.forget(process)
            except psutil.AccessDenied:
                raise SensorLost(f"process {process.pid} belongs to another user") from None
        return seconds, rss, peak

    def _add_rates(self, reading: Reading, now: float) -> None:
        busy = self._busy()
        if self._basis is None:
            self._basis = now, self._seconds, busy
            return
        then, seconds_then, busy_then = self._basis
        span = now - then
        if span < LEAST_SPAN_S:
            return
        self._basis = now, self._seconds, busy
        used = (self._seconds - seconds_then) / span
        others = max(0.0, (busy - busy_then) / span - used)
        reading.values["cpu_cores_used"] = used
        reading.values["cpu_percent"] = 100 * used / self._usable
        reading.values["other_cpu_percent"] = 100 * others / len(self._cores)

    def _busy(self) -> float:
        """Seconds the allowed cores were not idle, whoever used them, without those of the sampler itself."""
        total = 0.0
        every = psutil.cpu_times(percpu=True)
        for core in self._cores:
            if core < len(every):
                times = every[core]._asdict()
                total += sum(times.values()) - sum(times.get(field, 0.0) for field in IDLE)
        return total - time.process_time()


def _high_water(pid: int) -> int:
    """Most bytes ever resident, by the kernel's own mark; 0 where the system keeps none that can be read."""
    try:
        with Path(f"/proc/{pid}/status").open("rb") as file:
            for line in file:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0
