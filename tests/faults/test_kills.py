"""SIGKILL at random moments: of the command, of its worker, of all its processes at once.

tests/harness/runs/test_runner.py holds single kills at chosen moments; here the moments are random and many.
"""

from __future__ import annotations

import json
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
import safetensors
from jobs import without_times
from specimen import SUITE, command
from waiting import has_ended, wait_for

from harness.core.errors import HarnessError
from harness.results.store import Store
from harness.system.source import ROOT, SEARCH_PATH

NUM_KILLS = int(os.environ.get("HARNESS_FAULTS_KILLS", "100"))
SEED = 21
TARGETS = ("group", "parent", "worker")
# Then a run is left to finish: on a busy machine it may need longer than the one that was timed.
MOST_KILLS_OF_A_RUN = 5
# A second or two of training with many checkpoints, so that kills fall into every part of a run.
LONG = SUITE.replace("epochs: 2", "epochs: 40").replace("metrics:", "checkpoint_every_s: 0.05\nmetrics:")
WRITER = """
import sys
from pathlib import Path
import record_factory as make
from harness.results.store import Store
store, count = Store(Path(sys.argv[1])), 0
while True:
    store.write(make.record(curve=[{"tokens": place, "nll": count} for place in range(50)]))
    count += 1
    print(count, flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs SIGKILL")
def test_a_writer_killed_at_any_moment_leaves_a_whole_record(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join((SEARCH_PATH, str(ROOT / "tests/harness")))}
    for _ in range(3):
        words = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(words, env=variables, stdout=subprocess.PIPE) as process:
            assert process.stdout
            for _ in range(rng.randrange(2, 30)):
                assert process.stdout.readline()
            time.sleep(rng.uniform(0, 0.01))
            process.kill()
        store = Store(tmp_path)
        [(record, _)] = store.records()
        assert len(record.curve) == 50
        assert not store.problems


class Campaign:
    """Runs one suite again and again in real processes, which are known by a variable in their environment."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.mark = folder, {"FAULTS": f"faults-{os.getpid()}-{folder.name}"}

    def start(self, results: Path) -> subprocess.Popen[bytes]:
        words, variables = command(self.folder, results, LONG)
        with (self.folder / "stderr").open("ab") as errors:
            return subprocess.Popen(
                [*words, "--quiet"], cwd=self.folder, env={**variables, **self.mark}, start_new_session=True,
                stdout=subprocess.DEVNULL, stderr=errors,
            )  # fmt: skip

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if self.mark.items() <= process.environ().items() and not has_ended(process):
                    found.append(process)
        return found

    def kill(self, target: str, parent: subprocess.Popen[bytes], results: Path) -> None:
        """Kill everything, the command alone, or its worker alone (the command if there is no worker yet)."""
        children = [each for each in self.processes() if each.pid != parent.pid]
        with suppress(psutil.Error):
            workers = [each for each in children if "harness.worker.main" in each.cmdline()]
            for each in {"group": [*children, parent], "parent": [parent], "worker": workers or [parent]}[target]:
                each.kill()
        parent.wait()
        # Locks too: a process that is just being started has no environment to be known by.
        wait_for(
            lambda: not self.processes() and not any(map(is_held, results.rglob("*.lock"))),
            f"processes and locks left by a kill of the {target} to end",
        )


def is_held(lock: Path) -> bool:
    try:
        with filelock.FileLock(lock, timeout=0):
            return False
    except filelock.Timeout:
        return True


def half_files(results: Path) -> list[str]:
    """Files under a final name that are not whole."""
    found = []
    for path in (path for path in results.rglob("*") if not path.name.startswith(".")):
        try:
            if path.suffix == ".json":
                json.loads(path.read_bytes())
            elif path.suffix == ".safetensors":
                safetensors.deserialize(path.read_bytes())
        except (ValueError, safetensors.SafetensorError) as error:
            found.append(f"half file: {path.relative_to(results)}: {error}")
    store = Store(results)
    store.records()
    return found + [f"unreadable: {problem}" for problem in store.problems]


def outcome(results: Path) -> dict[str, object]:
    """What must not depend on kills: scores, curve, the best model's bits, and which files there are."""
    [run] = (results / "runs").iterdir()
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    value = without_times(run)
    return {
        **{key: value[key] for key in ("status", "scores", "curve", "code", "spec")},
        "weights": {path.name: path.read_bytes() for path in (run / "checkpoints/best").glob("*.safetensors")},
        # A run that was killed has sensor readings and failed records of its earlier attempts.
        "files": {name for name in names if not name.startswith(("history/", "checkpoints/sensors/", "worker"))},
    }


@pytest.mark.slow
def test_kills_at_random_moments_change_no_bit(tmp_path: Path) -> None:
    campaign, rng, started = Campaign(tmp_path), random.Random(SEED), time.monotonic()
    assert campaign.start(tmp_path / "whole").wait() == 0
    length_s, expected = time.monotonic() - started, outcome(tmp_path / "whole")
    kills, found, rounds = Counter[str](), [], 0
    while kills.total() < NUM_KILLS:
        results, rounds, before = tmp_path / f"round-{rounds}", rounds + 1, kills.total()
        while True:
            process, target, started = campaign.start(results), rng.choice(TARGETS), time.monotonic()
            is_last = kills.total() - before == MOST_KILLS_OF_A_RUN
            with suppress(subprocess.TimeoutExpired):
                if (status := process.wait(None if is_last else rng.uniform(0.2, length_s))) != 0:
                    found.append(f"status {status} without a kill in round {rounds}")
                # A machine that was busy at first would let later runs end before their kill.
                length_s = min(length_s, time.monotonic() - started)
                break
            campaign.kill(target, process, results)
            kills[target] += 1
            found += half_files(results)
        try:
            actual = outcome(results)
            found += [f"round {rounds}: {key} differs" for key in expected if actual[key] != expected[key]]
        except (HarnessError, OSError, ValueError, KeyError) as error:
            found.append(f"round {rounds}: {error}")
        print(f"{dict(kills)}, {rounds} runs finished, {len(found)} faults", flush=True)
    print((tmp_path / "stderr").read_text()[-2000:])
    assert not found, "\n".join(found)
