"""Is what lies here still what it was? Every byte is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.errors import DataError
from harness.data import folder
from harness.data.config import DatasetConfig, Registered
from harness.data.download.checksum import mismatch
from harness.data.download.locate import cache_folder, candidates, locked, raw_folder
from harness.data.preparation import Request, build, prepared_folder, request
from harness.data.registry import Dataset, RemoteFile, dataset


def verify(
    spec: str | Mapping[str, Any] | DatasetConfig,
    *,
    roots: Sequence[Path] = (),
    base: Path | None = None,
    cache: Path | None = None,
    repair: bool = True,
) -> dict[str, Any]:
    """Hash every source file that is here and every prepared file, and say what was found.

    Keys: name, ok, sources (file, path, ok, problem), prepared (folder, or null), damage (lines), rebuilt, problem.
    A damaged folder is rebuilt from sources that are here (never by download), unless repair is False. ok means: at
    least something is here, and all of it is right now. Raises DataError where a file of the user's is missing;
    SpecError for an unknown name.
    """
    cache = cache or cache_folder()
    wanted = request(spec, roots=roots, base=base)
    target = prepared_folder(wanted, cache)
    sources = _check_sources(wanted, roots, cache)
    damage = folder.damage(target) if target.exists() else []
    rebuilt, problem = False, None
    if damage and repair:
        try:
            with locked(cache, wanted.name):
                build(wanted, target, roots=roots, cache=cache, offline=True)
            rebuilt = True
        except DataError as error:
            problem = str(error)
    elif damage:
        problem = f"{target} is damaged: {damage[0]}"
    elif not target.exists() and not sources:
        problem = f"{wanted.name} is neither prepared nor found; run `harness data prepare {wanted.name}`"
    return {
        "name": wanted.name,
        "ok": problem is None and all(entry["ok"] for entry in sources),
        "sources": sources,
        "prepared": str(target) if target.exists() else None,
        "damage": damage,
        "rebuilt": rebuilt,
        "problem": problem,
    }


def _check_sources(wanted: Request, roots: Sequence[Path], cache: Path) -> list[dict[str, Any]]:
    if not isinstance(wanted.config, Registered):
        # Own files were hashed a moment ago: their hash is the request's identity.
        return [
            {"file": role, "path": str(path), "ok": True, "problem": None} for role, path in wanted.own_files.items()
        ]
    row = dataset(wanted.config.canonical)
    places = [*roots, raw_folder(cache, row.name)]
    entries = []
    for file in remote_files(row):
        for path in candidates(file, row.name, places):
            problem = mismatch(path, file)
            entries.append({"file": file.filename, "path": str(path), "ok": problem is None, "problem": problem})
    return entries


def remote_files(row: Dataset) -> list[RemoteFile]:
    """Every source file and every archive of a dataset, each once."""
    files: dict[RemoteFile, None] = dict.fromkeys(row.sources)
    files.update((source.archive, None) for source in row.sources if source.archive is not None)
    return list(files)
