"""Data on this machine: a list of all datasets, where one block's data is, and a check of every byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from harness.core.errors import DataError
from harness.data import folder
from harness.data.config import DatasetSpec, Registered
from harness.data.download.checksum import find_mismatch
from harness.data.download.locate import locked
from harness.data.download.obtain import SourceFinder, network_is_off
from harness.data.preparation import Request, build, facts, make_request
from harness.data.registry import DATASETS, SourceFile, get_dataset

# found: the source files are here. missing: they are not, and no server can be asked.
State: TypeAlias = Literal["prepared", "found", "download", "missing"]


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
    """The result of `verify`. `ok`: something is here, and all of it is right now.

    `prepared` is the folder of the ids or None, `damage` one line per damaged file in it, `rebuilt` whether it was
    repaired.
    """

    name: str
    ok: bool
    sources: list[SourceCheck]
    prepared: str | None
    damage: list[str]
    rebuilt: bool
    problem: str | None


def list_rows(roots: Sequence[Path] = ()) -> list[DatasetStatus]:
    """List every registered name and alias. Source files in the read-only `roots` are judged by their size alone."""
    rows = []
    for name in DATASETS:
        known = facts(name)
        state, _ = _find_state(Registered(name=name), roots)
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
    if isinstance(request.config, Registered):
        return _find_state(request.config, roots)[1]
    target = request.prepared_folder
    if folder.is_usable(target):
        return f"prepared in {target}"
    if request.own_files:
        return f"found: {', '.join(str(file.path) for file in request.own_files.values())}"
    return "generated here, no files needed"


def verify(spec: DatasetSpec, *, roots: Sequence[Path] = (), base: Path | None = None) -> Verification:
    """Hash every source file and every prepared file on this machine; arguments as in `prepare`.

    Returns:
        What was checked. A damaged folder is rebuilt from files that are here, never by download.

    Raises:
        SpecError: the block is wrong.
        DataError: a file of the user's is missing.
    """
    request = make_request(spec, roots=roots, base=base)
    target = request.prepared_folder
    sources = _check_sources(request, roots)
    damage = folder.find_damage(target) if target.exists() else []
    rebuilt, problem = False, None
    if damage:
        try:
            with locked(request.name):
                build(request, roots, offline=True)
            rebuilt = True
        except DataError as error:
            problem = f"{target} is damaged ({damage[0]}) and cannot be rebuilt: {error}"
    elif not target.exists() and not sources:
        problem = f"{request.name} is neither prepared nor found; run `harness data prepare {request.name}`"
    return Verification(
        name=request.name,
        ok=problem is None and all(source.ok for source in sources),
        sources=sources,
        prepared=str(target) if target.exists() else None,
        damage=damage,
        rebuilt=rebuilt,
        problem=problem,
    )


def _check_sources(request: Request, roots: Sequence[Path]) -> list[SourceCheck]:
    if not isinstance(request.config, Registered):
        # Own files were hashed just now: their hash is the request's identity.
        return [SourceCheck(role, str(file.path), True, None) for role, file in request.own_files.items()]
    finder = SourceFinder(get_dataset(request.config.name), roots)
    checks = []
    for file in finder.dataset.files:
        for path in finder.candidates(file):
            problem = find_mismatch(path, file)
            checks.append(SourceCheck(file.filename, str(path), problem is None, problem))
    return checks


def _find_state(config: Registered, roots: Sequence[Path]) -> tuple[State, str]:
    """The state of a registered dataset, in one word and in one phrase."""
    target = make_request(config).prepared_folder
    # Prepared ids are enough: nothing needs the source files any more.
    if folder.is_usable(target):
        return "prepared", f"prepared in {target}"
    dataset = get_dataset(config.name)
    finder = SourceFinder(dataset, roots)
    paths = {source: _find_by_size(source, finder) for source in dataset.sources}
    folders = dict.fromkeys(str(path.parent) for path in paths.values() if path is not None)
    downloads = list(dict.fromkeys(source.download_file for source, path in paths.items() if path is None))
    if not downloads:
        return "found", f"found in {', '.join(folders)}"
    urls = [url for file in downloads for url in file.urls]
    if urls and not network_is_off():
        size = sum(file.size for file in downloads)
        return "download", f"to be downloaded from {urlsplit(urls[0]).hostname} ({size / 1e6:.1f} MB)"
    reason = "the network is off" if network_is_off() else "no server has it"
    return "missing", f"missing, and {reason}; `harness data import {dataset.name} PATH` takes the file"


def _find_by_size(source: SourceFile, finder: SourceFinder) -> Path | None:
    """A file of the right name and size that could be the source file, or its archive."""
    # A list of all datasets must not hash gigabytes.
    for file in filter(None, (source, source.archive)):
        for path in finder.candidates(file):
            if path.stat().st_size == file.size:
                return path
    return None
