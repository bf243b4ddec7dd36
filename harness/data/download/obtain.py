"""Collect a registered dataset's source files: found, unpacked or downloaded, and always checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import DataError
from harness.data.download.extract import extract
from harness.data.download.http import Progress, Unavailable, download
from harness.data.download.locate import cache_folder, denied, is_file, network_is_off, subfolders, writing
from harness.data.registry import DATASETS, Dataset, SourceFile
from harness.system.files import remove_tree


@dataclass(frozen=True, slots=True)
class SourceFinder:
    """Finds the files of one dataset in the user's read-only `roots`, then in the cache."""

    dataset: Dataset
    roots: Sequence[Path] = ()

    @property
    def raw_folder(self) -> Path:
        """Folder of the cache for downloaded, unpacked and imported files."""
        return cache_folder() / "raw" / self.dataset.name

    def candidates(self, file: SourceFile, roots: Sequence[Path] | None = None) -> list[Path]:
        """List existing files that could be a source file, judged by their names, in the order of the search.

        Args:
            file: the source file or archive.
            roots: folders to look in, two levels deep; by default all roots and the cache.
        """
        paths: list[Path] = []
        for root in [*self.roots, self.raw_folder] if roots is None else roots:
            paths += [folder / file.filename for folder in (root, root / self.dataset.name, *subfolders(root))]
            paths += [root / file.member] if file.member is not None else []
        return [path for path in dict.fromkeys(paths) if is_file(path)]

    def denied(self) -> str | None:
        """The first place of the dataset in a folder that may not be entered, with the reason; None without one."""
        names = [self.dataset.files[0].filename, str(Path(self.dataset.name, self.dataset.files[0].filename))]
        places = [root / name for root in (*self.roots, self.raw_folder) for name in names]
        return next(filter(None, map(denied, places)), None)

    def gather(self) -> tuple[dict[str, Path], list[SourceFile]]:
        """Collect the source files that are on this machine, unpacking archives. The caller holds the dataset's lock.

        Returns:
            Filename -> path of the files found, and the source files that are missing.

        Raises:
            DataError: a source is missing, and a root has only a wrong file under its name.
        """
        paths: dict[str, Path] = {}
        wrong: list[str] = []
        for source in self.dataset.sources:
            if path := self._find(source, wrong):
                paths[source.filename] = path
        for archive, sources in self._by_archive(paths).items():
            if path := self._find(archive, wrong):
                paths.update(extract(path, sources, self.raw_folder))
        missing = [source for source in self.dataset.sources if source.filename not in paths]
        if missing and wrong:
            raise DataError(f"{wrong[0]}; move it out of the search path, or bring the right one")
        return paths, missing

    def obtain(self, *, offline: bool, progress: Progress | None = None) -> dict[str, Path]:
        """Find or download every source file, and verify it. The caller holds the dataset's lock.

        Args:
            offline: forbid downloads.
            progress: called during downloads.

        Returns:
            Filename -> path.

        Raises:
            DataError: a root has a wrong file, or a download failed; the message says what to bring where.
        """
        with writing():
            paths, missing = self.gather()
            if not missing:
                return paths
            reason = "the network is off"
            if not offline and not network_is_off():
                try:
                    self._download(paths, missing, progress)
                    return paths
                except Unavailable as error:
                    reason = str(error)
        name = self.dataset.name
        place = f"{problem}; elsewhere " if (problem := self.denied()) else ""
        lines = [
            f"{place}{name} is not here and cannot be downloaded:",
            *(f"  {part}" for part in reason.split("; ")),
            "A folder that has its files: give --data FOLDER, or set HARNESS_DATA=FOLDER",
            f"A file that you have: harness data import {name} PATH",
            *(f"Needed: {text}" for text in dict.fromkeys(source.download_file.summary for source in missing)),
            *(f"Looked in: {folder}" for folder in [*self.roots, self.raw_folder]),
        ]
        raise DataError(*lines)

    def _find(self, file: SourceFile, wrong: list[str]) -> Path | None:
        """The first candidate with the right size and checksum. Without one, those in roots are added to `wrong`."""
        name, problems = self.dataset.name, []
        for path in self.candidates(file, self.roots):
            problem = file.find_mismatch(path)
            if problem is None:
                return path
            # WikiText-2 and WikiText-103 use the same filenames: in the folder of the other one, a file is not wrong.
            if path.parent.name == name or path.parent.name not in DATASETS:
                problems.append(f"{path} is not {name}'s {file.filename}: {problem}")
        wrong += problems
        for path in self.candidates(file, [self.raw_folder]):
            if file.find_mismatch(path) is None:
                return path
        # The cache belongs to the harness: a damaged file in it is downloaded again.
        remove_tree(self.raw_folder / file.filename)
        return None

    def _by_archive(self, paths: dict[str, Path]) -> dict[SourceFile, list[SourceFile]]:
        """Archive -> its sources that have no path yet."""
        groups: dict[SourceFile, list[SourceFile]] = {}
        for source in self.dataset.sources:
            if source.archive is not None and source.filename not in paths:
                groups.setdefault(source.archive, []).append(source)
        return groups

    def _download(self, paths: dict[str, Path], missing: Sequence[SourceFile], progress: Progress | None) -> None:
        """Add each missing file to `paths`, alone or from its archive. Raises Unavailable."""
        reasons: list[str] = []

        def fetch(file: SourceFile) -> Path | None:
            try:
                download(file, self.raw_folder / file.filename, progress=progress)
            except Unavailable as error:
                reasons.append(str(error))
                return None
            return self.raw_folder / file.filename

        # Single files first: PTB's archive is six times as large as its three files.
        for source in (source for source in missing if source.urls):
            if (path := fetch(source)) is None:
                break  # the other files have the same mirrors
            paths[source.filename] = path
        for archive, sources in self._by_archive(paths).items():
            if path := fetch(archive):
                paths.update(extract(path, sources, self.raw_folder))
        if any(source.filename not in paths for source in missing):
            raise Unavailable("; ".join(dict.fromkeys(reasons)) or "no server has it")
