"""Data on this machine: list it, say where one block's data is, verify every byte, import a file."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import urlsplit

from harness.core.errors import DataError
from harness.data import folder
from harness.data.config import DatasetSpec, Registered, parse
from harness.data.download.locate import locked, network_is_off, writing
from harness.data.download.obtain import SourceFinder
from harness.data.preparation import Request, build, facts, make_request, prepare, rebuilt
from harness.data.registry import DATASETS, Dataset, SourceFile, get_dataset
from harness.system.files import open_new, replacing
from harness.system.reading import open_regular

if TYPE_CHECKING:
    from harness.data.manifest import Manifest

# found: the source files are here. missing: they are not, and no server can be asked. damaged: a file of the right name
# has another size, or a prepared folder cannot be used and there is nothing to build it from.
# unreadable: a folder that may hold them may not be entered.
State: TypeAlias = Literal["prepared", "found", "damaged", "unreadable", "download", "missing"]


@dataclass(frozen=True, slots=True)
class DatasetStatus:
    """A registered name or alias, and the state of its data on this machine."""

    name: str
    title: str
    unit: str
    tokens: dict[str, int]
    where: State


@dataclass(frozen=True, slots=True)
class SourceCheck:
    """A source file that was hashed; `problem` says how it differs from the expected one."""

    file: str
    path: str
    ok: bool
    problem: str | None


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of `verify`. `ok`: something is here, and all of it is right now."""

    name: str
    ok: bool
    sources: list[SourceCheck]
    prepared: str | None  # the folder of the ids
    damage: list[str]  # one line per damaged file in it
    rebuilt: bool
    problem: str | None


def list_rows(roots: Sequence[Path] = ()) -> list[DatasetStatus]:
    """List every registered name and alias. Source files in the read-only `roots` are judged by their size alone."""
    rows = []
    for name in DATASETS:
        known = facts(name)
        state, _ = _find_state(make_request(name), roots)
        rows.append(DatasetStatus(name, known.title, known.unit, dict(known.num_tokens or {}), state))
    return rows


def where(spec: DatasetSpec, roots: Sequence[Path] = (), base: Path | None = None) -> str:
    """Say in one phrase where the data would come from; arguments as in `prepare`.

    Returns:
        For example `prepared in FOLDER`. A missing file or a wrong block is part of the answer, not an error.
    """
    try:
        request = make_request(spec, roots=roots, base=base)
    except DataError as error:
        return f"missing: {error}"
    return _find_state(request, roots)[1]


def verify(
    spec: DatasetSpec,
    *,
    roots: Sequence[Path] = (),
    base: Path | None = None,
    note: Callable[[str], object] = lambda text: None,
) -> Verification:
    """Hash every source file and every prepared file on this machine; arguments as in `prepare`.

    Returns:
        What was checked. A damaged folder is rebuilt from files that are here, never by download.

    Raises:
        DataError: a file of the user's is missing, or the block is wrong.
    """
    request = make_request(spec, roots=roots, base=base)
    target = request.prepared_folder
    sources = _check_sources(request, roots)
    damage = folder.find_damage(target) if target.exists() else []
    is_rebuilt, problem = False, None
    if damage:
        try:
            with locked(request.name):
                build(request, roots, offline=True)
            is_rebuilt = True
            note(rebuilt(target, damage))
        except DataError as error:
            problem = f"{target} is damaged ({damage[0]}) and cannot be rebuilt: {error}"
    elif not target.exists() and not sources:
        problem = _denied(request, roots) or (
            f"{request.name} is neither prepared nor found; run `harness data prepare {request.name}`"
        )
    ok = problem is None and all(source.ok for source in sources)
    prepared = str(target) if target.exists() else None
    return Verification(request.name, ok, sources, prepared, damage, is_rebuilt, problem)


def _denied(request: Request, roots: Sequence[Path]) -> str | None:
    """Why nobody can tell whether a registered dataset is here; None if one can."""
    config = request.config
    return SourceFinder(get_dataset(config.name), roots).denied() if isinstance(config, Registered) else None


def _check_sources(request: Request, roots: Sequence[Path]) -> list[SourceCheck]:
    if not isinstance(request.config, Registered):
        # Own files were hashed just now: their hash is the request's identity.
        return [SourceCheck(role, str(file.path), True, None) for role, file in request.own_files.items()]
    finder = SourceFinder(get_dataset(request.config.name), roots)
    pairs = [(file, path) for file in finder.dataset.files for path in finder.candidates(file)]
    return [
        SourceCheck(file.filename, str(path), (problem := file.find_mismatch(path)) is None, problem)
        for file, path in pairs
    ]


def _find_state(request: Request, roots: Sequence[Path]) -> tuple[State, str]:
    """The state of a dataset in one word and in one phrase."""
    target, config = request.prepared_folder, request.config
    # Prepared ids are enough: nothing needs the source files any more.
    if folder.usable_manifest(target):
        return "prepared", f"prepared in {target}"
    if not isinstance(config, Registered):
        files = ", ".join(str(file.path) for file in request.own_files.values())
        return "found", f"found: {files}" if files else "generated here, no files needed"
    dataset = get_dataset(config.name)
    finder = SourceFinder(dataset, roots)
    paths = {source: _find_by_size(source, finder) for source in dataset.sources}
    folders = dict.fromkeys(str(path.parent) for path in paths.values() if path is not None)
    downloads = list(dict.fromkeys(source.download_file for source, path in paths.items() if path is None))
    if not downloads:
        return "found", f"found in {', '.join(folders)}"
    if damage := _find_wrong_sizes(dataset, paths, finder) or [
        f"{target}: {line}" for line in (folder.find_damage(target) if target.exists() else [])
    ]:
        return "damaged", f"damaged: {damage[0]}; delete it, or `harness data import {dataset.name} PATH`"
    if problem := finder.denied():
        return "unreadable", problem
    urls = [url for file in downloads for url in file.urls]
    if urls and not network_is_off():
        size = sum(file.size for file in downloads)
        return "download", f"to be downloaded from {urlsplit(urls[0]).hostname} ({size / 1e6:.1f} MB)"
    reason = "the network is off" if network_is_off() else "no server has it"
    return "missing", f"missing, and {reason}; `harness data import {dataset.name} PATH` takes the file"


def _find_by_size(source: SourceFile, finder: SourceFinder) -> Path | None:
    """A file of the right name and size that could be the source file, or its archive."""
    # A list of all datasets must not hash gigabytes.
    files = filter(None, (source, source.archive))
    return next((path for file in files for path in finder.candidates(file) if path.stat().st_size == file.size), None)


def _find_wrong_sizes(dataset: Dataset, paths: Mapping[SourceFile, Path | None], finder: SourceFinder) -> list[str]:
    """Files with the name of a source file that was not found, or of its archive, and another size than it."""
    files = [file for source, path in paths.items() if path is None for file in (source, source.archive) if file]
    # WikiText-2 and WikiText-103 have files of the same names: an intact file of the other one is not damage.
    intact = {(file.filename, file.size) for name in DATASETS for file in get_dataset(name).files}
    return [
        f"{path} has {path.stat().st_size:,} bytes, {file.filename} of {dataset.name} has {file.size:,}"
        for file in files
        for path in finder.candidates(file)
        if (file.filename, path.stat().st_size) not in intact
    ]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The result of `import_file`: names of files imported and still missing, and the prepared folder, if complete."""

    name: str
    imported: list[str]
    missing: list[str]
    prepared: Path | None
    manifest: Manifest | None

    def as_json(self) -> dict[str, object]:
        prepared = str(self.prepared) if self.prepared is not None else None
        manifest = self.manifest.as_json() if self.manifest is not None else None
        return {**asdict(self), "prepared": prepared, "manifest": manifest}


def import_file(name: str, path: Path, *, note: Callable[[str], object] = lambda text: None) -> ImportReport:
    """Copy source files into the cache, check them, and prepare the dataset if it is complete.

    Args:
        name: a registered dataset.
        path: a source file or archive under any name, recognised by size and checksum; or a folder of them.
        note: receives a line if a damaged prepared folder was rebuilt, with the reason.

    Raises:
        DataError: the name is unknown, or the file is not the dataset's; the message states both checksums.
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
    prepared = None if missing else prepare(name, note=note)
    manifest = folder.read_manifest(prepared) if prepared is not None else None
    return ImportReport(dataset.name, imported, [source.filename for source in missing], prepared, manifest)


def _files_in(dataset: Dataset, path: Path) -> list[Path]:
    """The source files in a folder, judged by name; the archives only if there is no source file."""
    for files in (dataset.sources, dataset.files):
        if paths := [path / file.filename for file in files if (path / file.filename).is_file()]:
            return paths
    names = ", ".join(file.filename for file in dataset.files)
    raise DataError(f"{path} holds none of {dataset.name}'s files: {names}")


def _import(dataset: Dataset, path: Path, target_folder: Path) -> str:
    """Copy a file to the name of the source file or archive that it is. Returns that name."""
    if not path.is_file():
        raise DataError(f"no file {path} to import as {dataset.name}")
    problems = {file: file.find_mismatch(path) for file in dataset.files}
    for file, problem in problems.items():
        if problem is None:
            # `gather` hashes the copy again, so a change of the original meanwhile does no harm.
            with (
                replacing(target_folder / file.filename) as partial,
                open_regular(path) as opened,
                open_new(partial) as copy,
            ):
                shutil.copyfileobj(opened, copy)
            return file.filename
    # The file of that name if there is one, else all files that it could have been.
    expected = [file for file in problems if file.filename == path.name] or list(problems)
    reasons = "; ".join(f"for {file.summary}, {problems[file]}" for file in expected)
    raise DataError(f"{path} is not {dataset.name}'s data: {reasons}; nothing was imported")
