"""The kernel's own accounts of processes: of a child that has ended, and how long this one has run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

COVERS = "the process and the children it waited for, from start to end, starting Python included"


def reap(process: subprocess.Popen[Any]) -> dict[str, Any] | None:
    """Wait for a child and return what it used, setting its returncode; None where the system gives no such account.

    user_s, system_s: CPU seconds; max_rss_bytes: the most that was resident of any one process. On Linux max_rss of a
    child starts at what its parent had when it was started.
    """
    if process.returncode is not None or not hasattr(os, "wait4"):
        process.wait()
        return None
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except ChildProcessError:  # someone else has reaped it
        process.wait()
        return None
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "user_s": usage.ru_utime,
        "system_s": usage.ru_stime,
        "max_rss_bytes": usage.ru_maxrss * unit,
        "covers": COVERS,
    }


def signal_name(number: int) -> str:
    """A signal's name; of one that Python has no name for, such as most real-time signals, its number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def age_s() -> float:
    """Seconds since this process was started, to a clock tick where the kernel says it, else to about a second."""
    try:
        # After the name, which may hold spaces and brackets, the 20th field: ticks from the system's start.
        fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started_s)
    except (OSError, AttributeError, ValueError, IndexError):
        import psutil

        return max(0.0, time.time() - psutil.Process().create_time())
