"""Start Python child processes, account for processes that ended or are running, and set this one's allocator."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.system import source

# Rounds that a thread of libgomp spins at a barrier before it sleeps: about 80 us, where the default is milliseconds.
# An idle machine loses nothing. On a busy one, a spinning thread takes the core that the thread it waits for needs:
# training on two shared cores was measured to drop to a tenth of its speed.
SPIN_COUNT = "4000"

# mallopt parameters, from glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_INT_MAX = 2**31 - 1

COVERS = "the process and the children it waited for, from start to end, starting Python included"


@dataclass(frozen=True, slots=True)
class Usage:
    """What an ended child used, as the kernel counts it: CPU seconds, and the largest resident size of one process.

    On Linux, `max_rss_bytes` of a child starts at its parent's size when the child was started.
    """

    user_s: float
    system_s: float
    max_rss_bytes: int
    covers: str = COVERS

    def to_json(self) -> dict[str, float | str]:
        return asdict(self)


def command(module: str) -> list[str]:
    """The command line that runs a module of this installation."""
    # -P keeps the current folder off the path: a folder named `models` there must not replace ours.
    return [sys.executable, "-P", "-m", module]


def environment() -> dict[str, str]:
    """The caller's environment, with this process's code first on the path and short spinning at barriers."""
    variables = dict(os.environ)
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, (source.SEARCH_PATH, variables.get("PYTHONPATH"))))
    # libgomp lets GOMP_SPINCOUNT override the policy, so a user's own policy is left alone.
    if "OMP_WAIT_POLICY" not in variables:
        variables.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    return variables


def reap(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> Usage | None:
    """Wait for a child, set its returncode and return its usage; None if the system cannot say."""
    if process.returncode is not None or not hasattr(os, "wait4"):
        process.wait()
        return None
    try:
        # Not Popen.wait, which reaps the child and discards its usage.
        _, status, usage = os.wait4(process.pid, 0)
    except ChildProcessError:  # another thread has waited for it
        process.wait()
        return None
    # Else a later Popen.wait would find no child and report status 0.
    process.returncode = os.waitstatus_to_exitcode(status)
    # ru_maxrss is in bytes on macOS, in KiB on Linux.
    unit = 1 if sys.platform == "darwin" else 1024
    return Usage(usage.ru_utime, usage.ru_stime, usage.ru_maxrss * unit)


def signal_name(number: int) -> str:
    """A signal's name, or `signal 40` for one without a name (most real-time signals)."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def age_s() -> float:
    """Seconds since this process started: to a clock tick on Linux, elsewhere to about a second."""
    try:
        # The process name before the last bracket may hold spaces. After it, field 20 is the start in clock ticks.
        fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        # The start time counts time in suspend, as CLOCK_BOOTTIME does and CLOCK_MONOTONIC does not.
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started_s)
    except (OSError, AttributeError, ValueError, IndexError):
        import psutil

        return max(0.0, time.time() - psutil.Process().create_time())


def peak_rss_bytes(pid: int) -> int:
    """The kernel's own record (VmHWM) of the most bytes resident in a running process; 0 where it has none."""
    with suppress(OSError), Path("/proc", str(pid), "status").open("rb") as file:
        for line in file:
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def keep_freed_memory() -> bool:
    """Stop glibc from returning large arrays to the system, as CUDA's caching allocator does on its device.

    Otherwise each step of a training maps its activations again and waits while the system clears the pages: a model
    with 10,000 words trains 1.4 times as fast with this. Results do not change. No effect without glibc.

    Returns: whether the allocator accepted the settings.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _INT_MAX))
