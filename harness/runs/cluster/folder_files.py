"""Files of an unfinished or finished run: taken from the folder of a node, and written into the folder of the results.

A node sends what changed. Its checkpoint may be replaced while it is read, so the indices are read before and after the
files that they name: if they are the same, the files are one checkpoint.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.checkpoints import format
from harness.core.errors import writing
from harness.system.files import PARTIAL, refuse_links, remove_tree, write_atomic
from harness.system.paths import under
from harness.system.reading import open_regular

CHECKPOINTS = "checkpoints"
# Replaced last by what writes them, so they are read first here, and written last.
INDICES = tuple(f"{CHECKPOINTS}/{name}/{format.INDEX}" for name in ("resume", "best"))
# A change of one of them means that there is something to save on the way.
SAVED = (INDICES[0], f"{CHECKPOINTS}/attempts.json", f"{CHECKPOINTS}/scores.json")
# The record is not among them: the store of the results writes it itself.
KEPT = ("nll-*.safetensors", "*.log")

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What changed in a run's folder.

    Attributes:
        files: contents by name, such as `checkpoints/best/checkpoint.json`.
        names: of all files that the folder holds now.
    """

    files: dict[str, bytes]
    names: frozenset[str]


class Watched:
    """A run's folder on a node; remembers what it has given away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._given: dict[str, Stamp] = {}
        self._saved: dict[str, Stamp] = {}

    def has_saved(self) -> bool:
        """Whether a checkpoint, an attempt or a score was written since the last snapshot."""
        return self._stamps(SAVED) != self._saved

    def snapshot(self) -> Snapshot | None:
        """What changed since the last one; None if the checkpoint was replaced meanwhile: ask again."""
        saved, indices = self._stamps(SAVED), self._stamps(INDICES)
        stamps = self._stamps(self._names())
        # The indices first, for what follows is only complete for them.
        order = sorted(stamps, key=lambda name: name not in INDICES)
        try:
            files = {name: _content(self.folder / name) for name in order if stamps[name] != self._given.get(name)}
        except FileNotFoundError:
            return None
        if self._stamps(INDICES) != indices:
            return None
        self._given, self._saved = stamps, saved
        return Snapshot(files, frozenset(stamps))

    def _names(self) -> list[str]:
        paths = [path for path in (self.folder / CHECKPOINTS).rglob("*") if not path.name.endswith(PARTIAL)]
        paths += [path for pattern in KEPT for path in self.folder.glob(pattern)]
        return [path.relative_to(self.folder).as_posix() for path in paths]

    def _stamps(self, names: Collection[str]) -> dict[str, Stamp]:
        found = {}
        for name in names:
            path = self.folder / name
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            if path.is_file():
                found[name] = (status.st_ino, status.st_mtime_ns, status.st_size)
        return found


def everything(folder: Path) -> dict[str, bytes]:
    """The checkpoints of a run that nobody is working on, by name."""
    names = (path for path in (folder / CHECKPOINTS).rglob("*") if path.is_file() and not path.name.endswith(PARTIAL))
    return {path.relative_to(folder).as_posix(): _content(path) for path in names}


def write(folder: Path, root: Path, files: Mapping[str, bytes], names: Collection[str] | None = None) -> None:
    """Write files into a run's folder, each whole or not at all, an index after the files that it names.

    Args:
        folder: of the run.
        root: of the results tree, which no link may lead out of.
        files: contents by name.
        names: of all files that the other side has; checkpoints that are not among them are removed. None keeps all.

    Raises:
        StoreError: the disk fails, or a name leads out of the folder.
    """
    with writing(folder):
        refuse_links(folder, root)
        for name in sorted(files, key=lambda name: name in INDICES):
            path = folder
            for part in name.split("/"):
                path = under(path, part)
            write_atomic(path, files[name])
        if names is not None:
            for path in (folder / CHECKPOINTS).rglob("*"):
                if path.is_file() and path.relative_to(folder).as_posix() not in names:
                    remove_tree(path)


def _content(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read()
