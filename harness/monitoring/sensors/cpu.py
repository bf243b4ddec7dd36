"""CPU time and memory of a process tree, and the load of all other processes on the same cores."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import psutil

from harness.monitoring.sensors.base import Detail, Quantity, Reading, SensorLost, SensorUnavailable, Target
from harness.system.processes import peak_rss_bytes

# The kernel counts CPU time in hundredths of a second: over a shorter span a rate would be mostly rounding.
MIN_SPAN_S = 0.2

# Fields of a core's times that are not work. The time of guests is already part of `user`.
IDLE = ("idle", "iowait", "guest", "guest_nice")

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


class Cpu:
    """Reads the operating system's accounts. Memory is the sum over the tree, shared pages counted once per process."""

    quantities = {
        # Of the process tree, in percent of the cores it may use: 100 is all of them.
        "cpu_percent": Quantity("%", "interval"),
        "cpu_cores_used": Quantity("cores", "interval"),
        "cpu_seconds": Quantity("s", "counter"),
        "rss_bytes": Quantity("bytes", "level"),
        "peak_rss_bytes": Quantity("bytes", "peak"),
        # Of all other processes on those cores, including the time a hypervisor took.
        "other_cpu_percent": Quantity("%", "interval"),
    }
    guarded = False
    period_s = 0.0
    install_hint = "psutil must be able to read the process"

    def open(self, target: Target) -> dict[str, Detail]:
        """Find the cores that the process may use."""
        self._tree = target.tree
        pid = self._tree.root.pid
        try:
            self._usable = usable_cores(pid)
            self._cores = allowed_cores(pid)
        except OSError as error:
            raise SensorUnavailable(f"process {pid} cannot be read: {error.strerror}") from None
        self._lost_s = self._seconds = 0.0
        self._peak = 0
        self._basis: tuple[float, float, float] | None = None  # time, CPU seconds and busy seconds of the last rates
        return {"usable_cores": self._usable, "allowed_cores": len(self._cores)}

    def read(self) -> Reading:
        """CPU seconds and memory now; the rates once MIN_SPAN_S has passed."""
        now = time.monotonic()
        seconds, rss, peak = self._account()
        # A member that ends without being waited for takes its time out of the sum; time once counted stays counted.
        self._lost_s += max(0.0, self._seconds - (seconds + self._lost_s))
        self._seconds = seconds + self._lost_s
        self._peak = max(self._peak, rss, peak)
        reasons = dict.fromkeys(("cpu_percent", "cpu_cores_used", "other_cpu_percent"), "needs two readings")
        values = {"cpu_seconds": self._seconds, "rss_bytes": float(rss), "peak_rss_bytes": float(self._peak)}
        reading = Reading(dict(values), reasons)
        if not rss:  # ended but not reaped: its CPU time can still be read, its memory cannot
            for name in ("rss_bytes",) if self._peak else ("rss_bytes", "peak_rss_bytes"):
                reading.values[name], reading.reasons[name] = None, "the process has ended"
        self._add_rates(reading, now)
        return reading

    def close(self) -> None:
        """Nothing to release."""

    def _account(self) -> tuple[float, int, int]:
        """CPU seconds of the members and their ended children, resident bytes, and the largest peak of one member."""
        seconds, rss, peak = 0.0, 0, 0
        for process in self._tree.members():
            try:
                times = process.cpu_times()
                seconds += times.user + times.system + times.children_user + times.children_system
                rss += process.memory_info().rss
                peak = max(peak, peak_rss_bytes(process.pid))
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
        basis, busy = self._basis, self._busy()
        if basis is not None and now - basis[0] < MIN_SPAN_S:
            return
        self._basis = now, self._seconds, busy
        if basis is not None:
            span = now - basis[0]
            used, busy = (self._seconds - basis[1]) / span, (busy - basis[2]) / span
            reading.values["cpu_cores_used"] = used
            reading.values["cpu_percent"] = 100 * used / self._usable
            # Both counts are rounded: on an idle machine their difference may be below zero.
            reading.values["other_cpu_percent"] = 100 * max(0.0, busy - used) / len(self._cores)

    def _busy(self) -> float:
        """Seconds in which the allowed cores were not idle, without those of the sampler itself."""
        cores = [times._asdict() for core, times in enumerate(psutil.cpu_times(percpu=True)) if core in self._cores]
        busy = sum(float(seconds) for times in cores for field, seconds in times.items() if field not in IDLE)
        return busy - time.process_time()


def allowed_cores(pid: int) -> frozenset[int]:
    """Numbers of the cores that `pid` may run on; all cores where the system has no affinity."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(pid))
    return frozenset(range(os.cpu_count() or 1))


def usable_cores(pid: int, proc: Path = PROC, cgroups: Path = CGROUPS) -> float:
    """Cores that `pid` may use: an integer by affinity, possibly a fraction by quota.

    Args:
        pid: the process.
        proc: root of the process file system.
        cgroups: root of the control group file system.

    Returns:
        The number of allowed cores, or the tightest quota from its control group up to the root if that is lower.
    """
    cores = float(len(allowed_cores(pid)))
    try:
        lines = (proc / str(pid) / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return cores
    quotas = []
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":  # version 2 has one hierarchy and names no controllers
            quotas += [_quota(folder, "cpu.max") for folder in _ancestors(cgroups, path)]
        elif "cpu" in controllers.split(","):
            folders = [folder for root in ("cpu", controllers) for folder in _ancestors(cgroups / root, path)]
            quotas += [_quota(folder, "cpu.cfs_quota_us", "cpu.cfs_period_us") for folder in folders]
    return min(cores, *quotas) if quotas else cores


def _ancestors(root: Path, path: str) -> list[Path]:
    """Folders from a group up to the root. In a container `path` may be the host's, and only the root exists."""
    folder = root / path.lstrip("/")
    return [folder, *(parent for parent in folder.parents if parent == root or root in parent.parents)]


def _quota(folder: Path, *names: str) -> float:
    """Cores by the quota and period in these files; infinite without a limit."""
    try:
        quota, period = " ".join((folder / name).read_text(encoding="utf-8") for name in names).split()
        return int(quota) / int(period) if int(quota) > 0 else math.inf  # -1 is no limit in version 1
    except (OSError, ValueError, ZeroDivisionError):  # also "max", no limit in version 2
        return math.inf
