"""A full disk at every write of every command that writes: one line with path and reason, nothing half made."""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from jobs import run_here
from specimen import Answer, Specimen, answered, ask, command

from harness.results.store import Store
from harness.system.files import remove_tree
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
            file, mode = FULL, mode.replace("x", "w").replace("a", "w")
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

    changed = {(io, "open"): opened, (builtins, "open"): opened, (os, "open"): os_opened,
               (os, "mkdir"): refused(os.mkdir), (os, "replace"): refused(os.replace)}  # fmt: skip
    with ExitStack() as stack:
        for (module, name), function in changed.items():
            stack.enter_context(patch.object(module, name, function))
        yield attempts


def train(specimen: Specimen) -> object:
    """A whole run as its worker does it, with its record."""
    record = run_here(specimen.job)
    execute.write_record(record, Store(specimen.results))
    return record


WRITERS: dict[str, Callable[[Specimen], Answer]] = {
    "train": lambda tree: answered(lambda: train(tree)),
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
    found: list[str] = []
    with specimen.at_home():
        for number in count():
            specimen.restore()
            for path in specimen.files:
                if name in REMOVED and path.is_relative_to(specimen.root / REMOVED[name]):
                    path.unlink()
            before = {path: path.read_bytes() for path in specimen.root.rglob("*") if path.is_file()}
            with full_from(number, specimen.root) as attempts:
                answer = WRITERS[name](specimen)
            problems = [answer.fault(), *left(specimen, before)]
            if answer.status == 2:
                said = ("No space left on device", str(specimen.root))
                problems += [f"lacks {each!r}: {answer.stderr}" for each in said if each not in answer.stderr]
            found += [f"{name}, write {number} ({Path([*attempts, ''][-1]).name}): {each}" for each in problems if each]
            if len(attempts) <= number:
                break
        assert answer.status == 0, answer
        specimen.restore()
    assert number > 0
    assert not found, "\n".join(found)


def left(specimen: Specimen, before: dict[Path, bytes]) -> list[str]:
    """Files that a failed write left empty or half made: partial ones, and final names that are empty."""
    new = [path for path in specimen.root.rglob("*") if path.is_file() and before.get(path) != path.read_bytes()]
    # Sensor readings are written row by row, so that a killed run leaves its own.
    new = [path for path in new if path.suffix != ".lock" and "sensors" not in path.parts]
    return [f"left {path}" for path in new if path.name.startswith(".") or not path.stat().st_size]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An own file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
def test_a_run_on_a_disk_that_fills_up_ends_in_lines_and_goes_on(small_disk: Path, tmp_path: Path) -> None:
    words, variables = command(tmp_path, small_disk)
    found, ballast = [], small_disk / "ballast"

    def run() -> tuple[int, str]:
        done = subprocess.run(words, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr + done.stdout

    for free_kib in (0, 4, 8, 16, 24, 32, 48, 64, 96, 128):
        for path in small_disk.iterdir():
            remove_tree(path)
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        os.truncate(ballast, ballast.stat().st_size - free_kib * 1024)
        status, text = run()
        if "Traceback" in text or "Error:" in text or (status and "No space left" not in text):
            found.append(f"{free_kib} KiB: status {status}: {text[-300:]}")
        ballast.unlink()
        status, text = run()
        if status:
            found.append(f"{free_kib} KiB, then space: status {status}: {text[-300:]}")
        found += [f"{free_kib} KiB: left {path.name}" for path in small_disk.rglob("*.partial")]
    assert not found, "\n".join(found)
