"""What `--again` repeats: a mark beside a run's checkpoints, so that a repeat of several runs goes on where it stopped.

A run is marked as long as its repeat is due; its old record stands meanwhile. All are marked before the first one
begins. One that was finished after the marks were set belongs to the repeat and is not begun once more.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from harness import checkpoint, code
from harness.atomic import write_atomic
from harness.errors import CheckpointError, StoreError
from harness.store import Store
from harness.types import RunSpec

MARK = "repeat"


def mark(specs: Sequence[RunSpec], store: Store) -> None:
    """Mark what is to be repeated: every run with a record, but those this repeat has done already.

    A run without a record was never finished: it is taken up where it stands. Raises StoreError where a folder cannot
    be written.
    """
    marks = [_read(checkpoints(store, spec)) for spec in specs]
    under_way = min((since for since, _ in filter(None, marks)), default=None)
    since = under_way or datetime.now(UTC).isoformat(timespec="seconds")
    for spec, known in zip(specs, marks, strict=True):
        if known is None and _is_due(spec, store, under_way):
            _write(checkpoints(store, spec), since, begun=False)


def is_due(spec: RunSpec, store: Store) -> bool:
    """Whether a repeat of this run was asked for and is not finished."""
    return _read(checkpoints(store, spec)) is not None


def begin(spec: RunSpec, store: Store) -> None:
    """Clear away what the repeat must not start from: the checkpoints before it, or such as cannot be resumed."""
    folder = checkpoints(store, spec)
    marked = _read(folder)
    fresh = marked is not None and not marked[1]
    if fresh or _is_foreign(folder / "resume", spec):
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != MARK:
                path.unlink(missing_ok=True)
    if marked is not None:
        _write(folder, marked[0], begun=True)


def done(spec: RunSpec, store: Store) -> None:
    (checkpoints(store, spec) / MARK).unlink(missing_ok=True)


def checkpoints(store: Store, spec: RunSpec) -> Path:
    return store.run_folder(spec.run_id) / "checkpoints"


def _is_due(spec: RunSpec, store: Store, under_way: str | None) -> bool:
    try:
        record = store.find(spec.run_id)
    except StoreError:  # a damaged record is replaced
        return True
    return record is not None and (under_way is None or record.started_at < under_way)


def _is_foreign(folder: Path, spec: RunSpec) -> bool:
    """Whether a checkpoint stands there that this run, by this code, cannot go on from."""
    if not (folder / checkpoint.INDEX).is_file():
        return False
    own = {**json.loads(json.dumps(spec.identity)), "code": code.installed()["source_sha256"]}
    try:
        return bool(checkpoint.read_index(folder).get("identity") != own)
    except CheckpointError:
        return True


def _read(folder: Path) -> tuple[str, bool] | None:
    """When the repeat was asked for and whether it has begun; None without a mark. A damaged mark counts as begun."""
    try:
        value = json.loads((folder / MARK).read_text(encoding="utf-8"))
        return str(value["since"]), bool(value["begun"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        return "", True


def _write(folder: Path, since: str, *, begun: bool) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / MARK, json.dumps({"since": since, "begun": begun}))
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror or error}") from error
