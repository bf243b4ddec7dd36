"""A suite, its entries, and the runs they resolve to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.config import speed as switches
from harness.core.config.as_json import as_json
from harness.core.config.evaluation import Adaptive, Evaluation
from harness.core.config.recipe import Recipe
from harness.core.config.speed import Speed
from harness.core.hashing import content_hash
from harness.core.json_values import FILE_BLOCK
from lm_models import COMPRESSORS, PRETRAINED, is_fitted
from lm_models.config import LATER

if TYPE_CHECKING:
    from harness.core.config.space import Parameter


@dataclass(frozen=True, slots=True)
class Label:
    """The place of a run in a table. Labels change no number, so one record may have several.

    Attributes:
        suite, entry, profile: which entry of which suite, under which profile.
        title, task, dataset: as a table shows them.
        metrics: names of the metrics to show, at least one.
        published: id of the published row to compare with, if any.
    """

    __pydantic_config__ = FILE_BLOCK

    suite: str
    entry: str
    profile: str
    title: str
    task: str
    dataset: str
    metrics: tuple[str, ...]
    published: str | None = None

    def __post_init__(self) -> None:
        if not self.metrics:
            raise ValueError("metrics must name at least one")


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One run, fully resolved: no default elsewhere changes its numbers.

    Attributes:
        label: its place in a table.
        dataset: the suite's dataset block.
        dataset_identity: what identifies the content: a registered name, or checksums of the user's files.
        model: `builder` and every setting of the model.
        recipe: how to train; None for a model that is loaded or has nothing to learn.
        checkpoint: folder of the weights to load; None for a model that is trained or has nothing to learn.
        checkpoint_sha256: checksum of those weights.
        evaluation: how to score.
        seed: of weights, dropout and windows.
        device: `cpu`, `cuda` or `cuda:i`.
        dtype: of the training step.
        kernel: backend of the model's main operation, or `auto`.
        checkpoint_every_s: seconds between two checkpoints.
        kernels: operations to time after scoring; they change no number.
        speed: switches that make the same training step faster.
        plan: how the recipe was fitted into a time budget. It is not part of the identity: the fitted recipe is.
        model_source: module, version and checksum of a model from outside the package, or path, revision and checksums
            of a pretrained one. Its checksum names the run: a changed model must not find the record of the one before.
        audit: whether the scores are audited; it changes none.
    """

    __pydantic_config__ = FILE_BLOCK

    label: Label
    dataset: dict[str, Any]
    dataset_identity: dict[str, Any]
    model: dict[str, Any]
    recipe: Recipe | None
    checkpoint: str | None
    checkpoint_sha256: str | None
    evaluation: Evaluation
    seed: int
    device: str
    dtype: str
    kernel: str
    checkpoint_every_s: float = 60.0
    kernels: tuple[str, ...] = ()
    speed: Speed = field(default_factory=Speed)
    plan: dict[str, Any] | None = None
    model_source: dict[str, Any] | None = field(default=None, metadata=LATER)
    audit: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        if not isinstance(self.model.get("builder"), str):
            raise ValueError("model must name its builder")

    @property
    def is_pretrained(self) -> bool:
        """Whether the model has a tokeniser of its own and was trained on other data."""
        return self.model["builder"] in PRETRAINED

    @property
    def is_fitted(self) -> bool:
        """Whether the model is fitted to the training split at once. A model from outside must be importable."""
        return self.checkpoint is None and is_fitted(self.model["builder"])

    @property
    def is_compressor(self) -> bool:
        """Whether it is scored by the size of files instead of by probabilities."""
        return self.model["builder"] in COMPRESSORS

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that changes a number, and nothing else, as JSON.

        Labels, paths, the device's index and the window of scoring are left out: they change no number.
        """
        switched_on = switches.changed(self.speed, self.device)
        return {
            # No key at the defaults: runs from before the block existed keep their ids.
            **({"speed": switched_on} if switched_on else {}),
            **({"model_sha256": self.model_source["sha256"]} if self.model_source is not None else {}),
            "dataset": self.dataset_identity,
            "model": {key: value for key, value in self.model.items() if not (self.is_pretrained and key == "path")},
            "recipe": recipe_identity(self.recipe),
            "checkpoint": self.checkpoint_sha256,
            "evaluation": _without_window(as_json(self.evaluation)),
            "seed": self.seed,
            "device": self.device.split(":")[0],
            "dtype": self.dtype,
            "kernel": self.kernel,
        }

    def checkpoint_identity(self, code_sha256: str) -> dict[str, Any]:
        """The identity that a checkpoint must have for this run, by this code, to resume from it."""
        # Through JSON, because it is compared with a checkpoint's file, where tuples have become lists.
        return {**json.loads(json.dumps(self.identity)), "code": code_sha256}

    @property
    def quality_identity(self) -> str:
        """Hash shared by runs that differ only in hardware, dtype, kernel, speed and seed."""
        outside = ("device", "dtype", "kernel", "seed", "speed")
        return content_hash({key: value for key, value in self.identity.items() if key not in outside})

    @property
    def run_id(self) -> str:
        """Readable name and hash: `ptb-char-awd-lstm-s1-0f3a9c12d4`."""
        return self._named(f"-s{self.seed}", self.identity)

    @property
    def seedless_id(self) -> str:
        """Name and hash shared by the runs of all seeds: `ptb-char-awd-lstm-61b0a9d2c7`."""
        return self._named("", {key: value for key, value in self.identity.items() if key != "seed"})

    def _named(self, seed: str, identity: Mapping[str, Any]) -> str:
        name = str(self.dataset_identity.get("name", "data"))
        # The class of an import path: a colon is not allowed in the name of a folder everywhere.
        builder = self.model["builder"].rpartition(":")[2]
        # 10 hex digits are 40 bits: among ten thousand runs, two share them with a probability of 5e-5.
        return f"{name}-{builder}{seed}-{content_hash(identity)[:10]}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a suite before seeds, profile and device are chosen. Every value is checked."""

    name: str
    title: str
    model: dict[str, Any]
    recipe: Recipe | None
    checkpoint: str | None
    published: str | None
    dtype: str
    kernel: str
    speed: Speed = field(default_factory=Speed)
    adaptive: Adaptive | None = None
    audit: bool = False
    space: Mapping[str, Parameter] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite file as loaded under one profile. Relative names in it start from the folder of `path`."""

    path: Path
    name: str
    task: str
    profile: str
    profiles: tuple[str, ...]
    dataset: dict[str, Any]
    dataset_title: str
    metrics: tuple[str, ...]
    evaluation: Evaluation
    seeds: tuple[int, ...]
    entries: tuple[Entry, ...]
    checkpoint_every_s: float
    kernels: tuple[str, ...] = ()


def recipe_identity(recipe: Recipe | None) -> dict[str, Any] | None:
    """A recipe as JSON without the window of its validation, which changes no number."""
    if recipe is None:
        return None
    value = as_json(recipe)
    return {**value, "validation": _without_window(value["validation"])}


def _without_window(block: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in block.items() if key != "window"}
