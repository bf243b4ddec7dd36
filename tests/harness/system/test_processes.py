"""Child processes: their code and environment, and what the kernel says of them against our own count."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.system import processes, source


def test_a_child_runs_our_modules_in_any_folder(tmp_path: Path) -> None:
    for name in ("harness", "models", "json"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not ours')")
    started = [*processes.command("harness")[:-2], "-c", "import json, harness; print(harness.__file__)"]
    done = subprocess.run(
        started, cwd=tmp_path, env=processes.environment(), capture_output=True, text=True, timeout=60, check=True
    )
    assert Path(done.stdout.strip()).parent == source.ROOT / "harness"


def test_the_callers_choices_for_barriers_and_paths_are_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    assert processes.environment()["PYTHONPATH"] == os.pathsep.join((source.SEARCH_PATH, "elsewhere"))
    assert processes.environment()["GOMP_SPINCOUNT"] == processes.SPIN_COUNT
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert processes.environment()["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert "GOMP_SPINCOUNT" not in processes.environment()


AGE = """
import time
began = time.monotonic()
time.sleep(0.3)
from harness.system import processes
age, slept = processes.age_s(), time.monotonic() - began
print(age, slept)
"""


def test_the_age_of_a_process_is_within_the_seconds_its_parent_waited() -> None:
    started = time.monotonic()
    out = subprocess.run([sys.executable, "-c", AGE], capture_output=True, text=True, check=True).stdout
    waited = time.monotonic() - started
    age, slept = map(float, out.split())
    assert slept - 0.02 <= age <= waited + 0.02, "a clock tick is a hundredth"


def test_a_signal_without_a_name_is_shown_by_its_number() -> None:
    assert processes.signal_name(signal.SIGKILL) == "SIGKILL"
    assert processes.signal_name(40) == "signal 40"


def test_a_child_is_reaped_with_its_usage() -> None:
    spin = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\nraise SystemExit(3)"
    child = subprocess.Popen([sys.executable, "-S", "-c", spin])
    usage = processes.reap(child)
    assert child.returncode == 3
    assert usage is not None
    assert usage.user_s + usage.system_s >= 0.3
    assert usage.max_rss_bytes > 1_000_000
    assert usage.to_json().keys() == {"user_s", "system_s", "max_rss_bytes", "covers"}
    assert processes.reap(child) is None


FAULTS = """
import resource, sys
import numpy as np
from harness.system import processes
if "keep" in sys.argv and not processes.keep_freed_memory():
    sys.exit("the allocator refused")
def write():
    np.ones(8_000_000)  # 64 MB: above every threshold of glibc
write()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    write()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_freed_memory_that_is_kept_is_not_mapped_again() -> None:
    def faults(*arguments: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS, *arguments], capture_output=True, text=True, check=True)
        return int(done.stdout)

    # Even with huge pages of 2 MB, ten fresh arrays of 64 MB are more than 300 pages.
    assert faults() > 300
    assert faults("keep") < 30
