"""The kernel's own account of a child that has ended: what its sensors can be held against."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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
