"""`--again`: repeat each run once, over as many invocations of the same command as it takes.

RESULTS/repeats/<hash of the runs and the code>.json notes, for every run, when the record it had at first was started
and whether its repeat has begun. A run with another record since is done. The note is deleted when all are done.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from harness.checkpoints import format
from harness.core.errors import CheckpointError, StoreError, writing
from harness.core.hashing import content_hash, with_digest
from harness.core.json_values import parse_stamped
from harness.core.specs import RunSpec
from harness.results.store import Store
from harness.system import source
from harness.system.files import refuse_links, remove_tree, write_atomic
from harness.system.reading import read_bytes

DAMAGED = "damaged"


class RepeatedRun(BaseModel):
    """One run of a repeat.

    Attributes:
        before: when the record it had was started; None without a record.
        begun: whether its checkpoints are the repeat's own.
    """

    before: str | None
    begun: bool = False


_RUNS = TypeAdapter(dict[str, RepeatedRun])


class Repeat:
    """A repeat of some runs, in a file until all are done."""

    def __init__(self, path: Path, runs: dict[str, RepeatedRun], store: Store) -> None:
        self.path, self.runs, self.store = path, runs, store
        self._writing = threading.Lock()  # on a cluster, several runs begin at a time

    def is_due(self, spec: RunSpec) -> bool:
        """Whether the run still has the record it had, or none."""
        return _started_at(spec, self.store) in (None, DAMAGED, self.runs[spec.run_id].before)

    def begin(self, spec: RunSpec) -> None:
        """Delete the checkpoints that a repeat must not start from. Raises StoreError if that fails.

        Those of a run with a record go, once. Those of a run that was never finished stay, if they can be resumed.
        """
        run, folder = self.runs[spec.run_id], self.store.run_folder(spec.run_id) / "checkpoints"
        # Only now, not at the start of the repeat: until its turn, a run keeps the weights that its record speaks of.
        if (run.before is not None and not run.begun) or _is_foreign(folder / "resume", spec):
            with writing(folder):
                remove_tree(folder)
        if not run.begun:
            # After the deletion: a kill in between deletes again, which loses nothing.
            run.begun = True
            self._write()

    def finish(self) -> None:
        """Forget the repeat: the same command starts a new one."""
        with writing(self.path):
            remove_tree(self.path)

    def _write(self) -> None:
        with self._writing, writing(self.path):
            refuse_links(self.path.parent, self.path.parents[1])
            write_atomic(self.path, json.dumps(with_digest(_RUNS.dump_python(self.runs)), indent=1))


def start(specs: Sequence[RunSpec], store: Store) -> Repeat:
    """Continue the unfinished repeat of these runs by the installed code, or start a new one.

    Args:
        specs: the runs of the command, in any order.
        store: the results tree.

    Raises:
        StoreError: the repeat cannot be noted.
    """
    # Other code makes other numbers, so what older code has repeated does not count.
    key = content_hash([sorted(spec.run_id for spec in specs), source.installed().source_sha256])
    path = store.root / "repeats" / f"{key[:16]}.json"
    with suppress(OSError, ValueError):
        return Repeat(path, parse_stamped(dict[str, RepeatedRun], read_bytes(path)), store)
    repeat = Repeat(path, {spec.run_id: RepeatedRun(before=_started_at(spec, store)) for spec in specs}, store)
    repeat._write()
    return repeat


def _started_at(spec: RunSpec, store: Store) -> str | None:
    """What distinguishes a run's record from an earlier one; None without a record."""
    try:
        record = store.find(spec.run_id)
    except StoreError:
        return DAMAGED
    return None if record is None else record.started_at


def _is_foreign(folder: Path, spec: RunSpec) -> bool:
    """Whether the folder holds a checkpoint that this run, by this code, cannot resume."""
    if not (folder / format.INDEX).is_file():
        return False
    try:
        identity = format.read_index(folder).identity
    except CheckpointError:
        return True
    return bool(identity != spec.checkpoint_identity(source.installed().source_sha256))
