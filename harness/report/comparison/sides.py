"""What a comparison compares: the runs of one recipe under several seeds, one run, or a checkpoint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness import data
from harness.checkpoints.format import INDEX
from harness.core.errors import DataError, NotComparableError, StoreError
from harness.core.messages import near
from harness.core.scores import Score
from harness.core.specs import Label
from harness.core.target_losses import TargetLosses
from harness.report.rows import primary_protocol
from harness.results import target_files
from harness.results.record import RunRecord
from harness.results.store import RECORD, Store


@dataclass(frozen=True, slots=True)
class Text:
    """The tokens of a split: ids (N,), the text of each id, and their unit."""

    ids: np.ndarray
    vocabulary: Sequence[str]
    unit: str


class Side(ABC):
    """Scores of one model or recipe, under the name that it was asked for by.

    Attributes:
        name: as given.
        metrics: names of the metrics to compare.
    """

    name: str
    metrics: tuple[str, ...]

    @abstractmethod
    def scores(self) -> dict[str, list[Score]]:
        """The scores of each split, one per seed; splits that a seed lacks are left out."""

    @abstractmethod
    def tokens_id(self, split: str) -> object:
        """What two sides share whose scores are of the same tokens."""

    @abstractmethod
    def has_losses(self, split: str) -> bool:
        """Whether the loss of each target was kept, for every seed."""

    @abstractmethod
    def losses(self, split: str) -> list[TargetLosses]:
        """The loss of each target, one per seed. Raises StoreError if a file cannot be read."""

    @abstractmethod
    def text(self, split: str) -> Text | None:
        """The tokens, if they are here and sound."""

    @property
    @abstractmethod
    def codes(self) -> set[object]:
        """Checksums of the code that made the scores."""


@dataclass(frozen=True, slots=True)
class Runs(Side):
    """Runs that differ in their seed only; `folders` are theirs, in the same order."""

    name: str
    records: tuple[RunRecord, ...]
    metrics: tuple[str, ...]
    folders: tuple[Path, ...] = ()

    def scores(self) -> dict[str, list[Score]]:
        by_split: dict[str, list[Score]] = {}
        for record in self.records:
            for score in record.scores:
                if score.protocol.name == primary_protocol(record, score.split):
                    by_split.setdefault(score.split, []).append(score)
        return {split: scores for split, scores in by_split.items() if len(scores) == len(self.records)}

    def tokens_id(self, split: str) -> object:
        # The checksum of the ids, or of what they were made from.
        record = self.records[0]
        ids: Mapping[str, Any] = record.data.get("ids") or {}
        return ids[split].get("sha256") if split in ids else record.spec.dataset_identity

    def has_losses(self, split: str) -> bool:
        return all(score.target_file is not None for score in self.scores()[split])

    def losses(self, split: str) -> list[TargetLosses]:
        named = zip(self.folders, self.scores()[split], strict=True)
        return [target_files.read(folder, score.target_file) for folder, score in named if score.target_file]

    def text(self, split: str) -> Text | None:
        try:
            folder = data.find_prepared(dict(self.records[0].spec.dataset), base=Path())
            corpus = None if folder is None else data.load(folder)
        except DataError:
            return None
        return None if corpus is None else Text(corpus.splits[split], corpus.vocabulary, corpus.unit)

    @property
    def codes(self) -> set[object]:
        return {record.code.get("source_sha256") for record in self.records}


def find_side(name: str, store: Store, records: Sequence[tuple[RunRecord, Sequence[Label]]]) -> Runs:
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
        NotComparableError: a run did not finish, an entry has runs of more than one recipe, or the name is that of a
            checkpoint.
    """
    path = Path(name)
    folder = path.parent if path.name == RECORD else path
    if (folder / RECORD).is_file():
        outside = Store(folder.absolute().parents[1])
        inside = [each for each in outside.records() if each[0].run_id == folder.absolute().name]
        if not inside:
            problems = (problem for problem in outside.problems if folder.name in problem)
            raise StoreError(next(problems, f"{folder}: holds no readable record"))
        return _side(name, inside, outside)
    if (path / INDEX).is_file() or name.startswith("hf:"):
        raise NotComparableError(f"{name}: is a checkpoint; name a text to score it on, with --text or --dataset")
    by_id = [each for each in records if each[0].run_id == name]
    if by_id:
        return _side(name, by_id, store)
    named = [each for each in records if any(name in _names(label) for label in each[1])]
    if not named:
        damaged = next((problem for problem in store.problems if name in Path(problem.split(": ")[0]).parts), None)
        if damaged is not None:
            raise StoreError(damaged)
        known = [record.run_id for record, _ in records]
        known += [each for _, labels in records for label in labels for each in _names(label)]
        raise StoreError(f"{store.root}: has no run or entry '{name}'.{near(name, known)}")
    recipes = {record.spec.seedless_id for record, _ in named}
    if len(recipes) > 1:
        ids = ", ".join(record.run_id for record, _ in named)
        raise NotComparableError(f"'{name}' names runs of {len(recipes)} recipes: {ids}; name one of them")
    return _side(name, named, store)


def _side(name: str, found: Sequence[tuple[RunRecord, Sequence[Label]]], store: Store) -> Runs:
    for record, _ in found:
        if record.status != "finished":
            raise NotComparableError(f"{record.run_id}: {record.status}: {record.error}")
        if record.spec.is_compressor:
            hint = "`harness table` shows its size with the others"
            raise NotComparableError(f"{record.run_id}: a compressor's file has no loss for parts of its text; {hint}")
    metrics = dict.fromkeys(m for _, labels in found for label in labels for m in label.metrics)
    ordered = sorted((record for record, _ in found), key=lambda record: record.spec.seed)
    return Runs(name, tuple(ordered), tuple(metrics), tuple(store.run_folder(record.run_id) for record in ordered))


def _names(label: Label) -> tuple[str, ...]:
    return (label.entry, f"{label.suite}/{label.entry}", f"{label.suite}/{label.profile}/{label.entry}")
