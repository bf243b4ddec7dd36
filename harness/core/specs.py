"""A suite, its entries, and the runs they resolve to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.config import speed as switches
from harness.core.hashing import content_hash


@dataclass(frozen=True, slots=True)
class Label:
    """Where a run stands in a table. Labels change no number, so one record may carry several."""

    suite: str
    entry: str
    profile: str
    title: str
    task: str
    dataset: str
    metrics: tuple[str, ...]
    published: str | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Label:
        return cls(**{**value, "metrics": tuple(value["metrics"])})


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One run, fully resolved: nothing that changes its numbers is left to a default elsewhere.

    dataset is the suite's dataset block; dataset_identity is what `harness.data.identify` says of
    its content (a registered name, or checksums of the user's files). Exactly one of recipe and
    checkpoint is set, except for models that need neither (the oracle), where both are None. kernels are
    ops to time after scoring: they change no number. plan says how the recipe was fitted into a time budget, and
    stays outside the identity: the recipe that came of it is what names the run.
    """

    label: Label
    dataset: Mapping[str, Any]
    dataset_identity: Mapping[str, Any]
    model: Mapping[str, Any]
    recipe: Mapping[str, Any] | None
    checkpoint: str | None
    checkpoint_sha256: str | None
    evaluation: Mapping[str, Any]
    seed: int
    device: str
    dtype: str
    kernel: str
    checkpoint_every_s: float = 60.0
    kernels: tuple[str, ...] = ()
    speed: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that changes a number, and nothing else.

        Labels, paths and the device's index are left out, and so are the windows of scoring, which change its speed.
        """
        named = switches.changed(self.speed, self.device)
        return {
            **({"speed": named} if named else {}),
            "dataset": self.dataset_identity,
            "model": self.model,
            "recipe": recipe_identity(self.recipe) if self.recipe is not None else None,
            "checkpoint": self.checkpoint_sha256,
            "evaluation": _without_window(self.evaluation),
            "seed": self.seed,
            "device": self.device.split(":")[0],
            "dtype": self.dtype,
            "kernel": self.kernel,
        }

    def checkpoint_identity(self, code_sha256: str) -> dict[str, Any]:
        """What a checkpoint says of itself that this run, by this code, can go on from; as JSON gives it back."""
        return {**json.loads(json.dumps(self.identity)), "code": code_sha256}

    @property
    def quality_identity(self) -> str:
        """Hash of what a score is *of*; runs that share it differ only in hardware, dtype, kernel, speed and seed."""
        kept = {k: v for k, v in self.identity.items() if k not in ("device", "dtype", "kernel", "seed", "speed")}
        return content_hash(kept)

    @property
    def run_id(self) -> str:
        """Readable name and hash: `ptb-char-awd-lstm-s1-0f3a9c12d4`."""
        return self._named(f"-s{self.seed}", self.identity)

    @property
    def seedless_id(self) -> str:
        """Name and hash of what the runs of all seeds have in common: `ptb-char-awd-lstm-61b0a9d2c7`."""
        return self._named("", {key: value for key, value in self.identity.items() if key != "seed"})

    def _named(self, mark: str, identity: Mapping[str, Any]) -> str:
        name = str(self.dataset_identity.get("name", "data"))
        return f"{name}-{self.model['builder']}{mark}-{content_hash(identity)[:10]}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunSpec:
        kernels = tuple(value.get("kernels", ()))
        return cls(**{**value, "label": Label.from_json(value["label"]), "kernels": kernels})


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a suite before seeds, profile and device are chosen; every value is checked."""

    name: str
    title: str
    model: Mapping[str, Any]
    recipe: Mapping[str, Any] | None
    checkpoint: str | None
    published: str | None
    dtype: str
    kernel: str
    speed: Mapping[str, Any] = field(default_factory=dict)
    adaptive: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite file as loaded under one profile. `path` is where relative names in it start from."""

    path: Path
    name: str
    task: str
    profile: str
    profiles: tuple[str, ...]
    dataset: Mapping[str, Any]
    dataset_title: str
    metrics: tuple[str, ...]
    evaluation: Mapping[str, Any]
    seeds: tuple[int, ...]
    entries: tuple[Entry, ...]
    published: tuple[str, ...]
    checkpoint_every_s: float
    kernels: tuple[str, ...] = ()


def _without_window(block: Mapping[str, Any]) -> dict[str, Any]:
    """A block that says how to score, without the tokens per forward pass."""
    return {key: value for key, value in block.items() if key != "window"}


def recipe_identity(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe whose validation says nothing of its window; the lengths it trains on (`windows`) stay."""
    validation = recipe.get("validation")
    return {**recipe, "validation": _without_window(validation)} if validation else dict(recipe)
