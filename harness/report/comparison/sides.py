"""What a comparison compares: the runs of one recipe under several seeds, or one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.errors import NotComparableError, StoreError
from harness.core.messages import near
from harness.core.scores import MIN_BLOCKS, Score
from harness.core.specs import Label
from harness.report.intervals import block_sums
from harness.report.rows import primary_protocol
from harness.results.record import RunRecord
from harness.results.store import RECORD, Store
from harness.statistics.intervals import FloatArray

# The window of a protocol changes the speed only.
_SAME = ("name", "num_streams", "warmup", "carried_state", "targets", "denominator")


@dataclass(frozen=True, slots=True)
class Side:
    """Runs that differ in their seed only, under the name that they were asked for by."""

    name: str
    records: tuple[RunRecord, ...]
    metrics: tuple[str, ...]

    def scores(self) -> dict[str, list[Score]]:
        """The scores of each split under the first protocol, one per seed; splits that a seed lacks are left out."""
        by_split: dict[str, list[Score]] = {}
        for record in self.records:
            for score in record.scores:
                if score.protocol.name == primary_protocol(record):
                    by_split.setdefault(score.split, []).append(score)
        return {split: scores for split, scores in by_split.items() if len(scores) == len(self.records)}


def find_side(name: str, store: Store, records: Sequence[tuple[RunRecord, Sequence[Label]]]) -> Side:
    """Find runs by name.

    Args:
        name: a run's folder or record, a run id, or an entry: `ENTRY` or `SUITE/ENTRY` or `SUITE/PROFILE/ENTRY`, which
            means all of its seeds.
        store: the results tree.
        records: its records with their labels.

    Returns:
        The runs.

    Raises:
        StoreError: there is no such run, or a record cannot be read.
        NotComparableError: a run did not finish, or an entry has runs of more than one recipe.
    """
    path = Path(name)
    folder = path.parent if path.name == RECORD else path
    if (folder / RECORD).is_file():
        outside = Store(folder.absolute().parents[1])
        inside = [each for each in outside.records() if each[0].run_id == folder.absolute().name]
        if not inside:
            problems = (problem for problem in outside.problems if folder.name in problem)
            raise StoreError(next(problems, f"{folder}: holds no readable record"))
        return _side(name, inside)
    by_id = [each for each in records if each[0].run_id == name]
    if by_id:
        return _side(name, by_id)
    named = [each for each in records if any(name in _names(label) for label in each[1])]
    if not named:
        known = [record.run_id for record, _ in records]
        known += [each for _, labels in records for label in labels for each in _names(label)]
        raise StoreError(f"{store.root}: has no run or entry '{name}'.{near(name, known)}")
    recipes = {record.spec.seedless_id for record, _ in named}
    if len(recipes) > 1:
        ids = ", ".join(record.run_id for record, _ in named)
        raise NotComparableError(f"'{name}' names runs of {len(recipes)} recipes: {ids}; name one of them")
    return _side(name, named)


def check_same_text(a: Side, b: Side, split: str, one: Score, other: Score) -> None:
    """Raise NotComparableError unless two scores are of the same targets, in the same blocks, by the same protocol."""
    where = f"{a.name} and {b.name} cannot be compared on {split}"
    for name in _SAME:
        ours, theirs = getattr(one.protocol, name), getattr(other.protocol, name)
        if ours != theirs:
            raise NotComparableError(f"{where}: protocol {name} is {ours!r} and {theirs!r}")
    if _text(a, split) != _text(b, split):
        raise NotComparableError(f"{where}: their texts differ")
    for name in ("num_targets", "num_units"):
        ours, theirs = getattr(one.tally, name), getattr(other.tally, name)
        if ours != theirs:
            raise NotComparableError(f"{where}: {name} is {ours} and {theirs}")
    if (one.block_targets, len(one.block_nll_nats)) != (other.block_targets, len(other.block_nll_nats)):
        raise NotComparableError(f"{where}: their blocks differ; score both again with this version")


def blocks(side: Side, split: str, scores: Sequence[Score]) -> tuple[FloatArray, FloatArray]:
    """Loss per block (seeds, n) and units per block (n,). Raises NotComparableError for too few blocks or NaN."""
    parts = [block_sums(score) for score in scores]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        num = len(scores[0].block_nll_nats)
        if num < MIN_BLOCKS:
            reason = f"{split} has {num} blocks of text, and an interval needs {MIN_BLOCKS}; score a longer text"
            raise NotComparableError(f"{side.name}: {reason}")
        raise NotComparableError(f"{side.name}: a block of {split} has no finite loss")
    return np.array([part.nats[0] for part in known]), np.array(known[0].units)


def _side(name: str, found: Sequence[tuple[RunRecord, Sequence[Label]]]) -> Side:
    for record, _ in found:
        if record.status != "finished":
            raise NotComparableError(f"{record.run_id}: {record.status}: {record.error}")
    metrics = dict.fromkeys(m for _, labels in found for label in labels for m in label.metrics)
    ordered = sorted((record for record, _ in found), key=lambda record: record.spec.seed)
    return Side(name, tuple(ordered), tuple(metrics))


def _names(label: Label) -> tuple[str, ...]:
    return (label.entry, f"{label.suite}/{label.entry}", f"{label.suite}/{label.profile}/{label.entry}")


def _text(side: Side, split: str) -> object:
    """Identifies the tokens of a split: the checksum of their ids, or of what they were made from."""
    record = side.records[0]
    ids: Mapping[str, Any] = record.data.get("ids") or {}
    return ids[split].get("sha256") if split in ids else record.spec.dataset_identity
