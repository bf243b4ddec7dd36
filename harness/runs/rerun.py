"""What `--again` repeats: each run once, however many times the same command has to be given until all are done.

A repeat notes, before its first run begins, which record every run of the command had: one that has another since is
done. Beside the checkpoints of a run lies a mark while they are newer than its record, which stands until the end.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.checkpoints import format
from harness.core.errors import CheckpointError, StoreError
from harness.core.hashing import content_hash
from harness.core.specs import RunSpec
from harness.results.store import Store
from harness.system import source
from harness.system.files import write_atomic

MARK = "repeat"
DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Repeat:
    """before: run id -> when the record that stood at first was started; None where there was none."""

    path: Path
    before: Mapping[str, str | None]

    def is_due(self, spec: RunSpec, store: Store) -> bool:
        """Whether the run still has the record it had, or none."""
        found = _started(spec, store)
        return found in (None, DAMAGED) or found == self.before.get(spec.run_id)

    def done(self) -> None:
        """Forget the repeat: the same command is a new one from now on."""
        self.path.unlink(missing_ok=True)


def ask(specs: Sequence[RunSpec], store: Store) -> Repeat:
    """The repeat of these runs by the installed code that was stopped on its way, or else a new one.

    Raises StoreError where it cannot be noted.
    """
    name = content_hash([sorted(spec.run_id for spec in specs), source.installed().source_sha256])[:16]
    path = store.root / "repeats" / f"{name}.json"
    with suppress(OSError, ValueError, TypeError):
        known = json.loads(path.read_text(encoding="utf-8"))
        return Repeat(path, {str(run): None if at is None else str(at) for run, at in dict(known).items()})
    before = {spec.run_id: _started(spec, store) for spec in specs}
    _write(path, json.dumps(before, indent=1))
    return Repeat(path, before)


def begin(spec: RunSpec, store: Store) -> None:
    """Clear away what a repeat of this run must not start from, and mark what it will make.

    Checkpoints of a run that has a record go, unless they are a repeat's own; those of a run that was never finished
    stay. Such as cannot be resumed go in any case. Raises StoreError where the folder cannot be written.
    """
    folder, record = _checkpoints(spec, store), _started(spec, store)
    finished_before = record is not None and not is_under_way(spec, store)
    if folder.is_dir() and (finished_before or _is_foreign(folder / "resume", spec)):
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != MARK:
                path.unlink(missing_ok=True)
    if record is not None:
        _write(folder / MARK, json.dumps({"before": record}))


def is_under_way(spec: RunSpec, store: Store) -> bool:
    """Whether the run's checkpoints are newer than its record: a repeat's, which was stopped."""
    mark = _checkpoints(spec, store) / MARK
    try:
        before = json.loads(mark.read_text(encoding="utf-8"))["before"]
    except FileNotFoundError:
        return False
    except (OSError, ValueError, TypeError, KeyError):  # empty, as marks once were
        return True
    return bool(before == _started(spec, store))


def done(spec: RunSpec, store: Store) -> None:
    """The run has its new record."""
    (_checkpoints(spec, store) / MARK).unlink(missing_ok=True)


def _checkpoints(spec: RunSpec, store: Store) -> Path:
    return store.run_folder(spec.run_id) / "checkpoints"


def _started(spec: RunSpec, store: Store) -> str | None:
    """What tells a run's record from the one before; None without a record."""
    try:
        record = store.find(spec.run_id)
    except StoreError:
        return DAMAGED
    return None if record is None else record.started_at


def _is_foreign(folder: Path, spec: RunSpec) -> bool:
    """Whether a checkpoint stands there that this run, by this code, cannot go on from."""
    if not (folder / format.INDEX).is_file():
        return False
    own = spec.checkpoint_identity(source.installed().source_sha256)
    try:
        return bool(format.read_index(folder).identity != own)
    except CheckpointError:
        return True


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
    except OSError as error:
        raise StoreError(f"{path.parent}: cannot be written: {error.strerror or error}") from error
