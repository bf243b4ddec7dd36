"""Copy a file that the user brought into the cache, once its content is known to be right."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import DataError
from harness.data import folder
from harness.data.config import Registered, parse
from harness.data.download.checksum import find_mismatch
from harness.data.download.extract import temporary_file
from harness.data.download.locate import locked, writing
from harness.data.download.obtain import SourceFinder
from harness.data.preparation import prepare
from harness.data.registry import Dataset, get_dataset

if TYPE_CHECKING:
    from harness.data.manifest import Manifest


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The result of `import_file`: names of files imported and still missing, and the prepared folder, if complete."""

    name: str
    imported: list[str]
    missing: list[str]
    prepared: Path | None
    manifest: Manifest | None

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "imported": self.imported,
            "missing": self.missing,
            "prepared": str(self.prepared) if self.prepared is not None else None,
            "manifest": self.manifest.as_json() if self.manifest is not None else None,
        }


def import_file(name: str, path: Path) -> ImportReport:
    """Copy source files into the cache, check them, and prepare the dataset if it is complete.

    Args:
        name: a registered dataset.
        path: a source file or archive under any name, recognised by size and checksum; or a folder of them.

    Raises:
        SpecError: the name is unknown.
        DataError: the file is not the dataset's; the message states the expected and the actual checksum.
    """
    config = parse(name)
    assert isinstance(config, Registered)
    dataset = get_dataset(config.name)
    finder = SourceFinder(dataset)
    path = path.expanduser()
    paths = _files_in(dataset, path) if path.is_dir() else [path]
    with locked(dataset.name), writing():
        imported = [_import(dataset, each, finder.raw_folder) for each in paths]
        _, missing = finder.gather()
    prepared = None if missing else prepare(name)
    manifest = folder.read_manifest(prepared) if prepared is not None else None
    return ImportReport(dataset.name, imported, [source.filename for source in missing], prepared, manifest)


def _files_in(dataset: Dataset, path: Path) -> list[Path]:
    """The source files in a folder, judged by name; the archives only if there is no source file."""
    for files in (dataset.sources, dataset.files):
        paths = [path / file.filename for file in files if (path / file.filename).is_file()]
        if paths:
            return paths
    raise DataError(
        f"{path} holds none of {dataset.name}'s files: {', '.join(file.filename for file in dataset.files)}"
    )


def _import(dataset: Dataset, path: Path, target_folder: Path) -> str:
    """Copy a file to the name of the source file or archive that it is. Returns that name."""
    if not path.is_file():
        raise DataError(f"no file {path} to import as {dataset.name}")
    problems = {file: find_mismatch(path, file) for file in dataset.files}
    for file, problem in problems.items():
        if problem is None:
            # `gather` hashes the copy again, so a change of the original meanwhile does no harm.
            with temporary_file(target_folder, ".import-") as (_, temporary):
                shutil.copyfile(path, temporary)
                temporary.replace(target_folder / file.filename)
            return file.filename
    # The file of that name if there is one, else all files that it could have been.
    expected = [file for file in problems if file.filename == path.name] or list(problems)
    reasons = "; ".join(f"for {file.summary}, {problems[file]}" for file in expected)
    raise DataError(f"{path} is not {dataset.name}'s data: {reasons}; nothing was imported")
