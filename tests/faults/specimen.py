"""A small results tree with its cache, and the commands that read it. Not a test file."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click.testing
from invoking import call
from jobs import make_job, run_folder, run_here

from harness.core.errors import HarnessError
from harness.results.record import RunRecord
from harness.results.store import Store
from harness.system.source import SEARCH_PATH
from harness.worker import execute

SUITE = """
suite: tiny
dataset: {kind: markov, order: 1, symbols: 5, train: 1000, valid: 200, test: 200}
metrics: [bpc]
evaluation: {protocols: [exact]}
entries:
  qrnn:
    title: QRNN
    model: {builder: qrnn, layers: 1, hidden: 8, embedding: 6}
    recipe: {optimizer: adam, lr: 1e-2, batch: 8, bptt: 20, epochs: 2}
"""


def command(folder: Path, results: Path, suite: str = SUITE) -> tuple[list[str], dict[str, str]]:
    """The words and the environment of a run in a process of its own, whose suite and cache are in a folder."""
    (folder / "tiny.yaml").write_text(suite)
    words = [sys.executable, "-P", "-m", "harness", "run", f"{folder / 'tiny.yaml'}", "--results", f"{results}"]
    own = {"HARNESS_CACHE": f"{folder / 'cache'}", "PYTHONPATH": SEARCH_PATH, "OMP_NUM_THREADS": "1"}
    return [*words, "--device", "cpu"], {**os.environ, **own}


@dataclass(frozen=True)
class Answer:
    """What a command answered: its status, what it printed, and an exception that nobody caught."""

    status: int
    stdout: str
    stderr: str
    crash: BaseException | None = None

    @property
    def numbers(self) -> list[str]:
        """Every number of the output; not times, digits of names, nor lines that say which damage was found."""
        with suppress(ValueError):
            return list(_leaves(json.loads(self.stdout)))
        text = re.sub(r"(?m)^(seconds|damage|prepared|data): .*$|\d+\.\d s on ", "", self.stdout)
        return re.findall(r"(?<![\w./-])-?\d[\d,]*\.?\d*(?:e-?\d+)?(?![\w-])", text)

    def fault(self, sound: Answer | None = None, *, by_hand: bool = False) -> str | None:
        """What is wrong with an answer after a fault, or None.

        Args:
            sound: the answer before the fault; None where any answer but a crash will do.
            by_hand: whether the damaged file is one that people write, where another number is another request.
        """
        if self.crash is not None:
            return f"traceback: {type(self.crash).__name__}: {self.crash}"[:200]
        lines = self.stderr.strip().splitlines()
        if re.search(r"Traceback|\w+Error\b|\w+Exception\b", self.stderr):
            return f"names a class: {lines[-1][:200]}"
        if self.status not in (0, 2, 3) and not by_hand:
            return f"status {self.status}: {lines[-1][:200] if lines else ''}"
        if self.status and not lines and self.status != 3 and not self.stdout:
            return f"status {self.status} without a word"
        if len(lines) > 4 or any(len(line) > 1000 for line in lines):
            return f"{len(lines)} lines, the longest of {max(map(len, lines))} characters"
        if sound and not by_hand and self.status == 0 and not lines and self.numbers != sound.numbers:
            return f"other numbers: {sorted(set(self.numbers) ^ set(sound.numbers))[:6]}"
        return None


class Specimen:
    """One finished run with checkpoints, labels, a baseline, a table and published rows, and the cache of its data."""

    def __init__(self, root: Path) -> None:
        self.root, self.cache = root, root / "cache"
        with self.at_home():
            self.job = make_job(root / "work", SUITE, sensors=False)
            self.results, self.suite, self.run = self.job.results, root / "work/small.yaml", run_folder(self.job)
            execute.write_record(run_here(self.job), Store(self.results))
            self.best, self.baseline = self.run / "checkpoints/best", root / "work/baseline.json"
            shutil.copy(Path(__file__).parents[2] / "results/published.yaml", self.results)
            assert call("check", self.results, "--baseline", self.baseline, "--update").exit_code == 0
            assert call("table", self.results, "--save").exit_code == 0
        self.files = {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}

    @contextmanager
    def at_home(self) -> Iterator[None]:
        """Use the cache of this specimen; every test has one of its own otherwise."""
        with patch.dict("os.environ", HARNESS_CACHE=str(self.cache)):
            yield

    def restore(self) -> None:
        """Put every file back and remove what came in addition."""
        for path in sorted(set(self.root.rglob("*")) - self.files.keys(), reverse=True):  # folders after their files
            if not path.is_dir():
                path.unlink()
            elif not any(path.iterdir()):
                path.rmdir()
        for path, content in self.files.items():
            if not path.is_file() or path.read_bytes() != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

    def by_hand(self, path: Path) -> bool:
        """Whether people write the file, so that no checksum can guard its numbers."""
        return path in (self.suite, self.baseline, self.results / "published.yaml")

    def readers(self, path: Path) -> dict[str, Callable[[], Answer]]:
        """The commands that read a file, by name."""
        on_cpu = ("--device", "cpu")
        every: dict[str, Callable[[], Answer]] = {
            "table": partial(ask, "table", self.results, "--format", "json"),
            "check": partial(ask, "check", self.results, "--baseline", self.baseline),
            "evaluate": partial(ask, "evaluate", self.best, "--dataset", self.suite, *on_cpu),
            "sample": partial(ask, "sample", self.best, "--prompt", "a", "--tokens", 20, *on_cpu),
            "export": partial(ask, "export", self.best, "--out", self.root / "new/export"),
            "verify": partial(ask, "data", "verify", self.suite),
            "describe": partial(ask, "describe", self.suite),
            "resume": partial(answered, self.resume),
        }
        names = ["table", "check"]
        if path.is_relative_to(self.cache):
            names = ["verify", "describe", "evaluate", "resume"]
        elif path == self.suite:
            names = ["verify", "describe", "evaluate"]
        elif path.is_relative_to(self.run / "checkpoints"):
            names = ["evaluate", "sample", "export", "resume"]
        return {name: every[name] for name in names}

    def resume(self) -> RunRecord:
        """Run again from what the checkpoints hold, in this process."""
        Store(self.results).archive(self.run.name)
        # A new job, which prepares the data first, as the command does.
        return run_here(make_job(self.suite.parent, SUITE, sensors=False))


def answered(run: Callable[[], Any]) -> Answer:
    """The answer of a run in this process, whose record it returns."""
    try:
        record = run()
    except Exception as error:
        return Answer(2, "", str(error)) if isinstance(error, HarnessError) else Answer(1, "", "", error)
    if record.status != "finished":
        return Answer(2, "", record.error or "")
    return Answer(0, f"{[score.tally for score in record.scores]} {record.data['limits']}", "")


def _leaves(value: object) -> Iterator[str]:
    """The numbers in a JSON value, with the keys they have."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from (f"{key}={leaf}" if isinstance(key, str) else leaf for leaf in _leaves(item))
    elif isinstance(value, int | float):
        yield str(value)


def ask(*arguments: object) -> Answer:
    """Call the command line in this process."""
    done: click.testing.Result = call(*arguments)
    crash = None if isinstance(done.exception, SystemExit | None) else done.exception
    return Answer(done.exit_code, done.stdout, done.stderr, crash)
