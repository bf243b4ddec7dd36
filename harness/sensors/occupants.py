"""Who holds memory on a GPU: the watched process tree, and how many others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.sensors.base import Reading

FIRST_NAMESPACE = 0xEFFFFFFC
"""Inode of the namespace of process ids a Linux machine starts with (include/linux/proc_ns.h, PROC_PID_INIT_INO)."""

OWN, OTHERS = "gpu_memory_bytes", "other_gpu_processes"


def numbered_apart(namespace: Path = Path("/proc/self/ns/pid")) -> bool:
    """Whether processes are numbered anew here, as in a container, so that a driver's numbers may be others."""
    try:
        return namespace.stat().st_ino != FIRST_NAMESPACE
    except OSError:
        return False


def share(listed: Mapping[int, int | None], ours: frozenset[int], *, apart: bool) -> Reading:
    """Bytes the process ids `ours` hold, and the number of other processes.

    `listed`: process id -> bytes, None where the driver does not say. Where processes are numbered apart and none of
    ours is listed, nothing can be told: the driver may number them as the host does, or list none at all.
    """
    found = ours & listed.keys()
    if apart and not found:
        reason = "the driver lists none of our processes: it numbers them as another namespace of process ids does"
        return Reading.nothing((OWN, OTHERS), reason)
    reading = Reading({OTHERS: float(len(listed) - len(found))})
    sizes = [listed[pid] for pid in found]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        reading.values[OWN] = None
        reading.reasons[OWN] = "the driver does not say how much memory a process holds"
    else:
        reading.values[OWN] = float(sum(known))
    return reading
