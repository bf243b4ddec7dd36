"""How many cores a process may use: its affinity, and the quotas of its control groups."""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


def allowed(pid: int) -> frozenset[int]:
    """Numbers of the cores `pid` may be scheduled on; all of them where the system does not say."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(pid))
    return frozenset(range(os.cpu_count() or 1))


def usable(pid: int, proc: Path = PROC, cgroups: Path = CGROUPS) -> float:
    """Cores' worth of time `pid` may take: a whole number by affinity, any fraction of one by quota."""
    quota = _quota(pid, proc, cgroups)
    cores = float(len(allowed(pid)))
    return cores if quota is None else min(cores, quota)


def _quota(pid: int, proc: Path, cgroups: Path) -> float | None:
    """The tightest quota on the way from the process's control group up to the root; None where there is none."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            found += [_read_v2(folder) for folder in _upwards(cgroups, path)]
        elif "cpu" in controllers.split(","):
            found += [_read_v1(folder) for root in ("cpu", controllers) for folder in _upwards(cgroups / root, path)]
    return min((quota for quota in found if quota is not None), default=None)


def _upwards(root: Path, path: str) -> list[Path]:
    """The folders from a group to the root. In a container the path may be the host's, and only the root be there."""
    folder = root / path.lstrip("/")
    return [folder, *(parent for parent in folder.parents if parent == root or root in parent.parents)]


def _read_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _read_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text(encoding="utf-8"))
        period = int((folder / "cpu.cfs_period_us").read_text(encoding="utf-8"))
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
