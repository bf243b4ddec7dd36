"""The check that a model predicts the text and does not read it from a file.

Python announces every file that is opened by its own functions. What native code opens, and what was read before the
check began, is not seen.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from harness.core.audits import Check
from harness.core.messages import count
from harness.evaluation.audit.checks import judge

_active: list[Sealed] = []
_is_installed = False


class Sealed:
    """Counts openings of some files and folders inside `with`, which may be entered several times.

    `others` are the files that were opened besides.

    Args:
        paths: files, and folders with all that is in them.
        names: names of files, in any folder.
    """

    def __init__(self, paths: Iterable[str | os.PathLike[str]] = (), names: Iterable[str] = ()) -> None:
        self.paths: set[Path] = set()
        self.add(paths)
        self.names = frozenset(names)
        self.opened: list[str] = []
        self.others: set[Path] = set()

    def add(self, paths: Iterable[str | os.PathLike[str]]) -> None:
        """Watch more files and folders."""
        self.paths |= {Path(path).resolve() for path in paths}

    def __enter__(self) -> Sealed:
        global _is_installed
        if not _is_installed:
            sys.addaudithook(_hook)  # for the rest of the process: Python removes none
            _is_installed = True
        _active.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _active.remove(self)

    def see(self, path: str) -> None:
        """Count one opening if the path is of the text."""
        real = Path(path).resolve()
        if real.name in self.names or not self.paths.isdisjoint((real, *real.parents)):
            self.opened.append(str(real))
        else:
            self.others.add(real)

    def check(self, find_copies: Callable[[Iterable[Path]], Sequence[str]]) -> Check:
        """The check `sealed`.

        Args:
            find_copies: names the copies of the text among the files that were opened, and in the model.
        """
        copies = find_copies(self.others)
        faults = [*(f"; it opened {path}" for path in self.opened[:1]), *(f"; {copy}" for copy in copies[:1])]
        places = count(len(self.paths) + len(self.names), "place")
        return judge(
            "sealed",
            "a model that reads the text, or a copy of it",
            len(self.opened) + len(copies),
            0,
            "openings and copies of the text",
            f"{places} of the text, watched while the model was used, and {count(len(self.others), 'other file')} "
            f"that it opened{''.join(faults)}",
        )


def report(path: str) -> None:
    """Count an opening of another process in every `Sealed` that is entered."""
    for each in _active:
        each.see(path)


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event != "open" or not _active:
        return
    # A number is a file that is open already.
    if isinstance(arguments[0], str | bytes | os.PathLike):
        with suppress(OSError, ValueError):
            report(os.fsdecode(arguments[0]))
