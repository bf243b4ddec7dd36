"""What the kernel says of processes, against what one can count oneself."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from harness.system import rusage

AGE = """
import time
began = time.monotonic()
time.sleep(0.3)
from harness.system import rusage
age, slept = rusage.age_s(), time.monotonic() - began
print(age, slept)
"""


def test_the_age_of_a_process_is_within_the_seconds_its_parent_waited_for_it() -> None:
    started = time.monotonic()
    out = subprocess.run([sys.executable, "-c", AGE], capture_output=True, text=True, check=True).stdout
    waited = time.monotonic() - started
    age, slept = map(float, out.split())
    assert slept - 0.02 <= age <= waited + 0.02, "a clock tick is a hundredth"


def test_a_signal_without_a_name_is_told_by_its_number() -> None:
    assert rusage.signal_name(signal.SIGKILL) == "SIGKILL"
    assert rusage.signal_name(40) == "signal 40"


def test_a_child_is_reaped_with_its_account() -> None:
    spin = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\nraise SystemExit(3)"
    child = subprocess.Popen([sys.executable, "-S", "-c", spin])
    usage = rusage.reap(child)
    assert child.returncode == 3
    assert usage is not None
    assert usage["user_s"] + usage["system_s"] >= 0.3
    assert usage["max_rss_bytes"] > 1_000_000
    assert rusage.reap(child) is None
