"""A full disk at every write of every command that writes: one line with path and reason, nothing half made."""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from jobs import run_here
from specimen import Answer, Specimen, ask, run_answer

from harness.results.record import RunRecord
from harness.results.store import Store
from harness.worker import execute

FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


@contextmanager
def full_from(number: int, root: Path) -> Iterator[list[str]]:
    """Let the write of this number, from 0, and all later ones below a folder fail as on a full disk.

    A file is made and stays empty, as real file systems do; new folders and names fail too. Yields what was attempted.
    """
    attempts: list[str] = []
    real_open, real_os_open = io.open, os.open

    def is_full(path: object) -> bool:
        if not isinstance(path, str | os.PathLike) or not Path(path).is_relative_to(root):
            return False
        attempts.append(str(path))
        return len(attempts) > number

    def opened(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        if set(mode) & set("wax+") and is_full(file):
            real_open(file, mode, *args, **options).close()
            return real_open(FULL, mode.replace("x", "w").replace("a", "w"), *args, **options)
        return real_open(file, mode, *args, **options)

    def os_opened(path: Any, flags: int, *args: Any, **options: Any) -> int:
        handle = real_os_open(path, flags, *args, **options)
        if flags & os.O_CREAT and not str(path).endswith(".lock") and is_full(path):
            os.close(handle)
            return real_os_open(FULL, os.O_RDWR)
        return handle

    def refused(real: Callable[..., None]) -> Callable[..., None]:
        def call(path: Any, *args: Any, **options: Any) -> None:
            # A folder that is there takes no space, and mkdir says so first.
            if not Path(path).is_dir() and is_full(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            real(path, *args, **options)

        return call

    with (
        patch.object(io, "open", opened), patch.object(builtins, "open", opened), patch.object(os, "open", os_opened),
        patch.object(os, "mkdir", refused(os.mkdir)), patch.object(os, "replace", refused(os.replace)),
    ):  # fmt: skip
        yield attempts


def train(specimen: Specimen) -> Answer:
    """A whole run as its worker does it, with its record."""

    def run() -> RunRecord:
        record = run_here(specimen.job)
        execute.write_record(record, Store(specimen.results))
        return record

    return run_answer(run)


WRITERS: dict[str, Callable[[Specimen], Answer]] = {
    "train": train,
    "prepare": lambda tree: ask("data", "prepare", tree.suite),
    "table": lambda tree: ask("table", tree.results, "--save"),
    "update": lambda tree: ask("check", tree.results, "--baseline", tree.baseline, "--update"),
    "export": lambda tree: ask("export", tree.best, "--out", tree.root / "new"),
    "curves": lambda tree: ask("curves", tree.results, "--out", tree.root / "new.svg"),
}
# What a command makes from nothing; the others replace a file.
REMOVED = {"train": "work/results/runs", "prepare": "cache/prepared"}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_at_any_write_is_one_line(specimen: Specimen, name: str) -> None:
    found, number, last = [], 0, False
    with specimen.at_home():
        while not last:
            specimen.restore()
            if name in REMOVED:
                shutil.rmtree(specimen.root / REMOVED[name])
            before = {path: path.read_bytes() for path in specimen.root.rglob("*") if path.is_file()}
            with full_from(number, specimen.root) as attempts:
                answer = WRITERS[name](specimen)
            last = len(attempts) <= number
            where = f"{name}, write {number} ({Path(attempts[-1]).name if attempts else ''})"
            problem = answer.fault()
            said = all(part in answer.stderr for part in ("No space left on device", str(specimen.root)))
            if problem is None and answer.status == 2 and not said:
                problem = f"does not say why or where: {answer.stderr.strip()[:200]}"
            found += [f"{where}: {problem}"] if problem else []
            found += [f"{where}: left {path}" for path in left(specimen, before)]
            number += 1
        assert answer.status == 0, answer
        specimen.restore()
    assert number > 1
    if found:
        pytest.fail("\n".join(dict.fromkeys(found)), pytrace=False)


def left(specimen: Specimen, before: dict[Path, bytes]) -> list[Path]:
    """Files that a failed write left empty or half made: partial ones, and final names that are empty."""
    new = [path for path in specimen.root.rglob("*") if path.is_file() and before.get(path) != path.read_bytes()]
    # Sensor readings are written row by row, so that a killed run leaves its own.
    ours = [path for path in new if path.suffix != ".lock" and "sensors" not in path.parts]
    return [path for path in ours if path.name.startswith(".") or not path.stat().st_size]
