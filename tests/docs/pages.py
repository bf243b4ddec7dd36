"""Code blocks of the documentation, and a shell that runs them with the code of a checkout."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from forking import write_python

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
NOT_RUN = "not run by the tests"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: after the opening fence; empty if there is none.
        text: lines of the block.
        before: the paragraph in front of it.
        line: number of the opening fence's line.
    """

    language: str
    text: str
    before: str
    line: int

    @property
    def is_run(self) -> bool:
        """Whether a test runs it: neither the block nor the paragraph before it says why not."""
        return NOT_RUN not in " ".join(f"{self.before} {self.text}".split())


def blocks(text: str) -> Iterator[Block]:
    """Fenced blocks of Markdown, in order."""
    for match in FENCE.finditer(text):
        paragraph = text[: match.start()].rstrip().rpartition("\n\n")[2]
        yield Block(match[1], match[2], paragraph, text.count("\n", 0, match.start()) + 1)


def run_script(script: str, folder: Path, code: Path) -> str:
    """Run commands as a reader would, with `harness` and `python` of a checkout on the PATH; returns the output.

    As for the installed script, the current folder is not on the path of `harness`. Each command, and each process that
    it starts from this Python, is a fork of a process with imported libraries.

    Args:
        script: shell commands; the first one that fails ends it.
        folder: working folder. It also gets the commands and a cache.
        code: the checkout whose packages are used.
    """
    commands = folder / ".bin"
    commands.mkdir(exist_ok=True)
    python, harness = commands / "python", commands / "harness"
    write_python(python)
    harness.write_text(f'#!/bin/sh\nexec "{python}" -P -m harness "$@"\n', encoding="utf-8")
    harness.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join((str(commands), os.environ["PATH"])),
        "PYTHONPATH": os.pathsep.join(str(code / name) for name in ("", "models", "kernels")),
        "HARNESS_CACHE": str(folder / ".cache"),
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("HARNESS_DATA", None)
    done = subprocess.run(
        ["sh", "-e", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
