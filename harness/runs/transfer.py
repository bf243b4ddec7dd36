"""A run's checkpoints brought from elsewhere: checked to be this run's and this code's, then put into the results.

No tensor is read here; the training loop checks every file against the sums its index names when it takes them up.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.checkpoints import format
from harness.checkpoints.index import CheckpointIndex
from harness.core.deadline import Leg
from harness.core.errors import CheckpointError, StoreError
from harness.core.specs import RunSpec
from harness.results.store import Store
from harness.runs import planning
from harness.runs.turns import Note, silent
from harness.system import source as code
from harness.system.files import write_atomic

RESUME, BEST = "resume", "best"
BESIDE = ("attempts.json", "scores.json")
SENSORS = "sensors"
"""What lies beside the checkpoints of a run that is not finished: its tries, scores and what the sensors saw."""


def install_plan(folder: Path, store: Store, leg: Leg | None = None, note: Note = silent) -> None:
    """Take over the plan that lies in a carried run folder, where the results have none of that run and budget.

    folder is a runs/RUN_ID folder. Raises BudgetError for a plan that cannot be read or written, StoreError where
    another process plans the same for as long as the leg lasts, or for long.
    """
    source = folder / planning.PLAN
    if not source.is_file():
        return
    planning.install(planning.read(source), store, leg, note)


def take_up(folder: Path, specs: Sequence[RunSpec], store: Store) -> str:
    """Copy the checkpoints of a carried runs/RUN_ID folder to where the run among `specs` looks for them.

    Returns one line that says what was done. A checkpoint that stands here already stays if it is as far. Raises
    CheckpointError where the folder holds none, belongs to none of the runs, or was written by other code;
    StoreError where another process holds the run.
    """
    source = folder / "checkpoints"
    if not (source / RESUME / format.INDEX).is_file():
        raise CheckpointError(
            f"{folder}: holds no checkpoint to go on from; name a runs/RUN_ID folder with checkpoints/{RESUME} in it"
        )
    index = format.read_index(source / RESUME)
    spec = _owner(index, folder, specs)
    theirs = (index.identity or {}).get("code")
    ours = code.installed().source_sha256
    if theirs != ours:
        raise CheckpointError(
            f"{folder}: was written by code {str(theirs)[:10]}, while {ours[:10]} is installed; go on with that "
            f"code, or start the run afresh without --resume-from"
        )
    with store.lock(spec.run_id):
        target = store.run_folder(spec.run_id) / "checkpoints"
        if source.resolve() == target.resolve():
            return f"{spec.run_id}: its checkpoints are in {store.root} already"
        step, here = _step(index), _standing(target / RESUME, index.identity)
        if here is not None and here >= step:
            return f"{spec.run_id}: goes on from its own checkpoint at step {here:,}; the one carried is at {step:,}"
        try:
            _copy(source, target)
        except OSError as error:
            raise StoreError(f"{target}: cannot be written: {error.strerror or error}") from error
    return f"{spec.run_id}: goes on from step {step:,}, carried from {folder}"


def _owner(index: CheckpointIndex, folder: Path, specs: Sequence[RunSpec]) -> RunSpec:
    """The spec whose identity the checkpoint names; the nearest one's difference where there is none."""
    identity = index.identity
    if identity is None:
        raise CheckpointError(f"{folder}: its checkpoint does not say which run it is of")
    theirs = {key: value for key, value in identity.items() if key != "code"}
    own = [json.loads(json.dumps(spec.identity)) for spec in specs]
    for spec, mine in zip(specs, own, strict=True):
        if mine == theirs:
            return spec
    found = [differences(theirs, mine) for mine in own]
    nearest = min(found, key=len, default=["no run of this suite was chosen"])
    more = f" (and {len(nearest) - 1} more)" if len(nearest) > 1 else ""
    raise CheckpointError(
        f"{folder}: holds the checkpoint of another run: {nearest[0]}{more}; give the command it was made with"
    )


def differences(theirs: Any, ours: Any, path: str = "") -> list[str]:
    """Every key whose value differs, as `recipe.lr is 0.1 there and 0.2 here`."""
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        keys = dict.fromkeys((*ours, *theirs))
        nested = (differences(theirs.get(key), ours.get(key), f"{path}.{key}".lstrip(".")) for key in keys)
        return [each for some in nested for each in some]
    return [] if theirs == ours else [f"{path} is {json.dumps(theirs)} there and {json.dumps(ours)} here"]


def _step(index: CheckpointIndex) -> int:
    try:
        return int(index.training["progress"]["step"])
    except (KeyError, TypeError, ValueError):
        raise CheckpointError("the checkpoint does not say how far it is; it is none to go on from") from None


def _standing(folder: Path, identity: Any) -> int | None:
    """How far the checkpoint here is; None where there is none, or one of other code that could not be gone on from."""
    try:
        index = format.read_index(folder)
        return _step(index) if index.identity == identity else None
    except CheckpointError:
        return None


def _copy(source: Path, target: Path) -> None:
    """The best model first and the index that makes a checkpoint last, so that a broken copy is never taken up.

    The best model is the one that the checkpoint names: a killed run may have kept a later one beside it.
    """
    resume = format.read_index(source / RESUME)
    for name, index in ((BEST, resume.best), (RESUME, resume)):
        if index is None:
            continue
        (target / name).mkdir(parents=True, exist_ok=True)
        for file in index.stored_files:
            shutil.copyfile(source / name / file.name, target / name / file.name)
        write_atomic(target / name / format.INDEX, index.to_json())
    for name in BESIDE:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    if (source / SENSORS).is_dir():
        shutil.copytree(source / SENSORS, target / SENSORS, dirs_exist_ok=True)
