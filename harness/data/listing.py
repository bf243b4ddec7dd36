"""What is here and what is not, told without reading the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.core.errors import DataError
from harness.data import folder
from harness.data.config import DatasetConfig, Registered
from harness.data.description import facts
from harness.data.download.locate import cache_folder, candidates, raw_folder
from harness.data.download.obtain import network_is_off
from harness.data.preparation import prepared_folder, request
from harness.data.registry import ALIASES, DATASETS, Dataset, RemoteFile, SourceFile, dataset


def list_rows(roots: Sequence[Path] = (), *, cache: Path | None = None) -> list[dict[str, Any]]:
    """One row per registered name and alias: name, title, unit, tokens per split, where.

    where is prepared, found, download or missing (no file here, and the network is off). Files are judged by
    their size alone.
    """
    cache = cache or cache_folder()
    rows = []
    for name in [*DATASETS, *ALIASES]:
        known = facts(name)
        rows.append(
            {
                "name": name,
                "title": known.title,
                "unit": known.unit,
                "tokens": dict(known.num_tokens or {}),
                "where": _state(Registered(name=name), roots, cache)[0],
            }
        )
    return rows


def where(
    spec: str | Mapping[str, Any] | DatasetConfig,
    roots: Sequence[Path] = (),
    base: Path | None = None,
    *,
    cache: Path | None = None,
) -> str:
    """One phrase on where the data would come from; a missing file is part of the answer, not an error.

    Raises SpecError as `parse` does.
    """
    cache = cache or cache_folder()
    try:
        wanted = request(spec, roots=roots, base=base)
    except DataError as error:
        return f"missing: {error}"
    if isinstance(wanted.config, Registered):
        return _state(wanted.config, roots, cache)[1]
    target = prepared_folder(wanted, cache)
    if folder.flaw(target) is None:
        return f"prepared in {target}"
    if wanted.own_files:
        return f"found: {', '.join(str(path) for path in wanted.own_files.values())}"
    return "generated here, no files needed"


def _state(config: Registered, roots: Sequence[Path], cache: Path) -> tuple[str, str]:
    """One word and one phrase."""
    target = prepared_folder(request(config), cache)
    if folder.flaw(target) is None:
        return "prepared", f"prepared in {target}"
    row = dataset(config.canonical)
    places = [*roots, raw_folder(cache, row.name)]
    found = [_lying(source, row.name, places) for source in row.sources]
    here = [path for path in found if path is not None]
    if len(here) == len(found):
        folders = dict.fromkeys(str(path.parent) for path in here)
        return "found", f"found in {', '.join(folders)}"
    size = _download_size(row, [source for source, path in zip(row.sources, found, strict=True) if path is None])
    hosts = _hosts(row)
    if hosts and not network_is_off():
        return "download", f"to be downloaded from {hosts[0]} ({size / 1e6:.1f} MB)"
    return "missing", f"missing, and the network is off; `harness data import {row.name} PATH` takes the file"


def _lying(source: SourceFile, name: str, places: Sequence[Path]) -> Path | None:
    """The source file or its archive, where one of the right size lies in a place."""
    files: list[RemoteFile] = [source, *([source.archive] if source.archive is not None else [])]
    for file in files:
        for path in candidates(file, name, places):
            if file.size in (None, path.stat().st_size):
                return path
    return None


def _download_size(row: Dataset, missing: Sequence[SourceFile]) -> int:
    files: dict[RemoteFile, None] = {}
    for source in missing:
        files[source if source.urls or source.archive is None else source.archive] = None
    return sum(file.size or 0 for file in files)


def _hosts(row: Dataset) -> list[str]:
    urls = [url for source in row.sources for url in source.urls]
    urls += [url for source in row.sources if source.archive is not None for url in source.archive.urls]
    return list(dict.fromkeys(str(urlsplit(url).hostname) for url in urls))
