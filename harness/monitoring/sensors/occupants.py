"""Who holds memory on a GPU: the watched process tree, and how many others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.monitoring.sensors.base import Reading

FIRST_NAMESPACE = 0xEFFFFFFC
"""Inode of the namespace of process ids a Linux machine starts with (include/linux/proc_ns.h, PROC_PID_INIT_INO)."""

OWN, OTHERS = "gpu_memory_bytes", "other_gpu_processes"
UNLISTED = "the driver lists none of our processes"


def numbered_apart(namespace: Path = Path("/proc/self/ns/pid")) -> bool:
    """Whether processes are numbered anew here, as in a container, so that a driver's numbers may be others.

    Where the system does not say, they may be.
    """
    try:
        return namespace.stat().st_ino != FIRST_NAMESPACE
    except OSError:
        return True


def share(listed: Mapping[int, int | None], ours: frozenset[int], *, apart: bool) -> Reading:
    """Bytes the process ids `ours` hold, and the number of other processes.

    `listed`: process id -> bytes, None where the driver does not say. Where none of ours is listed it is not known
    what they hold: not every driver lists every process. Where processes are numbered apart besides, neither are the
    others known: the driver may number ours as the host does.
    """
    found = ours & listed.keys()
    if apart and not found:
        reason = f"{UNLISTED}: it numbers them as another namespace of process ids does"
        return Reading.nothing((OWN, OTHERS), reason)
    reading = Reading({OTHERS: float(len(listed) - len(found))})
    if not found:
        reading.values[OWN] = None
        reading.reasons[OWN] = UNLISTED
        return reading
    sizes = [listed[pid] for pid in found]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        reading.values[OWN] = None
        reading.reasons[OWN] = "the driver does not say how much memory a process holds"
    else:
        reading.values[OWN] = float(sum(known))
    return reading
