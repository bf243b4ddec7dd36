"""SIGKILL at random moments: of the command, of its worker, of all its processes at once.

tests/harness/runs/test_runner.py holds single kills at chosen moments; here the moments are random and many.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import filelock
import psutil
import pytest
from jobs import without_times
from specimen import SUITE
from waiting import PATIENCE_S, wait_for

from harness.core.errors import HarnessError
from harness.results.store import Store
from harness.system.source import SEARCH_PATH

NUM_KILLS = int(os.environ.get("HARNESS_FAULTS_KILLS", "100"))
# A second or two of training with many checkpoints, so that kills fall into every part of a run.
LONG = SUITE.replace("epochs: 2", "epochs: 40").replace("metrics:", "checkpoint_every_s: 0.05\nmetrics:")


def start(folder: Path, results: Path) -> subprocess.Popen[bytes]:
    (folder / "tiny.yaml").write_text(LONG)
    variables = {"HARNESS_CACHE": str(folder / "cache"), "PYTHONPATH": SEARCH_PATH, "OMP_NUM_THREADS": "1"}
    words = ["run", "tiny.yaml", "--results", str(results), "--device", "cpu", "--quiet"]
    return subprocess.Popen(
        [sys.executable, "-m", "harness", *words], start_new_session=True, cwd=folder,
        env={**os.environ, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def kill(target: str, parent: subprocess.Popen[bytes], results: Path) -> None:
    """Kill everything, the command alone, or its worker alone (the command if there is no worker yet)."""
    with suppress(psutil.Error):
        command = psutil.Process(parent.pid)
        children = command.children(recursive=True)
        workers = [each for each in children if "harness.worker.main" in each.cmdline()]
        for each in {"group": [*children, command], "parent": [command], "worker": workers or [command]}[target]:
            each.kill()
        parent.wait()
        assert not psutil.wait_procs(children, PATIENCE_S)[1], "processes are left"
    # A process that was just being started is not among them, but holds a lock.
    wait_for(lambda: all(map(is_free, results.rglob("*.lock"))), f"locks left by a kill of the {target} to be free")


def is_free(path: Path) -> bool:
    with suppress(filelock.Timeout), filelock.FileLock(path, timeout=0):
        return True
    return False


def outcome(results: Path) -> dict[str, object]:
    """What must not depend on kills: scores, curve, the best model's bits, and which files there are.

    A half written checkpoint would not fit its checksum, and the command that continues from it would not end with 0.
    """
    [run] = (results / "runs").iterdir()
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    value = without_times(run)
    return {
        "record": {key: value[key] for key in ("status", "scores", "curve", "code", "spec")},
        "weights": {path.name: path.read_bytes() for path in (run / "checkpoints/best").glob("*.safetensors")},
        # A run that was killed has sensor readings and failed records of its earlier attempts.
        "files": {name for name in names if not name.startswith(("history/", "checkpoints/sensors/", "worker"))},
    }


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_kills_at_random_moments_change_no_bit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng, started = random.Random(21), time.monotonic()
    assert start(tmp_path, tmp_path / "whole").wait() == 0
    length_s, expected = time.monotonic() - started, outcome(tmp_path / "whole")
    kills, found, rounds = Counter[str](), [], 0
    while kills.total() < NUM_KILLS:
        results, rounds = tmp_path / f"round-{rounds}", rounds + 1
        while True:
            process, target = start(tmp_path, results), rng.choice(["group", "parent", "worker"])
            started = time.monotonic()
            with suppress(subprocess.TimeoutExpired):
                if (status := process.wait(rng.uniform(0.2, length_s))) != 0:
                    found.append(f"status {status} without a kill in round {rounds}")
                # A machine that was busy at first would let later runs end before their kill.
                length_s = min(length_s, time.monotonic() - started)
                break
            kill(target, process, results)
            kills[target] += 1
            (store := Store(results)).records()
            found += [f"unreadable: {problem}" for problem in store.problems]
        try:
            actual = outcome(results)
            found += [f"round {rounds}: {key} differs" for key in expected if actual[key] != expected[key]]
        except (HarnessError, OSError, ValueError, KeyError) as error:
            found.append(f"round {rounds}: {error}")
    with capsys.disabled():
        print(f"\nkills: {dict(kills)}, {rounds} runs finished, {len(found)} faults")
    if found:
        pytest.fail("\n".join(found), pytrace=False)
