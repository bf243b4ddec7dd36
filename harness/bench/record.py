"""A session's rows as a file under RESULTS/bench, with machine and code beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.core.errors import StoreError
from harness.system import source
from harness.system.files import write_atomic

SCHEMA = 1


def write(
    results: Path, kind: str, machine: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], how: Mapping[str, Any]
) -> Path:
    """Write one record, whole or not at all, and return its path. kind: `kernels`, `training` or `sensors`.

    how: what the session was asked for. Raises StoreError where the folder cannot be written.
    """
    started = datetime.now(UTC)
    body = {
        "schema": SCHEMA,
        "kind": kind,
        "written_at": started.isoformat(timespec="seconds"),
        "code": source.installed().to_json(),
        "machine": dict(machine),
        "how": dict(how),
        "rows": [dict(row) for row in rows],
    }
    folder = results / "bench"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = _free(folder, f"{_slug(str(machine['fingerprint']))}-{started:%Y%m%dT%H%M%SZ}")
        write_atomic(path, to_text(body))
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return path


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows alone, as a JSON list. Raises StoreError where the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, to_text([dict(row) for row in rows]))
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from error


def to_text(value: Any) -> str:
    """Indented JSON with each list of numbers on one line."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    return re.sub(r'\[\n([^\[\]{}"]*)\n\s*\]', lambda found: "[" + " ".join(found[1].split()) + "]", text) + "\n"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]


def _free(folder: Path, stem: str) -> Path:
    """A name in the folder that nothing has yet."""
    path, number = folder / f"{stem}.json", 2
    while path.exists():
        path, number = folder / f"{stem}-{number}.json", number + 1
    return path
