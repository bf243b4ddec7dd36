"""Core types of the harness. Standard library only at run time.

Shape letters: T time, B stream, H hidden, V vocabulary, N any number of rows.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from harness import speed as switches

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch

    from models.step import State, StepOutput

RECORD_SCHEMA = 2
"""2 added `costs`, and rows in `traces`; records of schema 1 are read as made without sensors."""


class LanguageModel(Protocol):
    """What the harness asks of a model: it owns its softmax and its penalties.

    A state is a tensor or a nested tuple of tensors shaped (..., B, X): the stream is the
    second last axis of every one, so that streams can be joined, masked and detached blindly.
    """

    generator: torch.Generator | None
    """Source of every dropout mask; None means torch's default generator."""

    def initial_state(self, batch: int) -> State: ...

    def __call__(self, inputs_TB: torch.Tensor, targets_TB: torch.Tensor, state: State) -> StepOutput: ...

    def features(self, inputs_TB: torch.Tensor, state: State) -> tuple[torch.Tensor, State]: ...

    def log_probs(self, h_NH: torch.Tensor) -> torch.Tensor: ...

    def nll(self, h_NH: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True, slots=True)
class Tally:
    """A sum with its denominators; divided once, in `metrics`.

    nll_nats is a float64 sum over num_targets scored tokens; num_units is what a metric divides
    by; num_dropped counts the tokens of the split that were never predicted, the first one included.
    """

    nll_nats: float
    num_targets: int
    num_units: int
    num_dropped: int

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.nll_nats + other.nll_nats,
            self.num_targets + other.num_targets,
            self.num_units + other.num_units,
            self.num_dropped + other.num_dropped,
        )


@dataclass(frozen=True, slots=True)
class EvaluationProtocol:
    """How a split becomes a Tally. `exact`, `official` and `streams` are built in `evaluate`.

    As it was asked for; that of a Score says what was done, which a short split may cut (`evaluate.allowed_by`).

    num_streams: text columns scored side by side. warmup: tokens each stream but the first reads
    before its first scored target. window: tokens per forward pass. targets, denominator: in words.
    """

    name: str
    num_streams: int
    warmup: int
    window: int
    carried_state: bool
    targets: str
    denominator: str


@dataclass(frozen=True, slots=True)
class Score:
    """One split under one protocol. `metrics` and `std_errors` map a metric's name to its value.

    block_nll_nats are sums over `block_targets` consecutive targets in text order (the last may be
    shorter): the raw samples behind std_errors and behind paired comparisons of two models. adaptation says, for
    a protocol under which the model learns from the text, how it was tuned and what it gained; see `harness.adapt`.
    """

    split: str
    protocol: EvaluationProtocol
    tally: Tally
    metrics: Mapping[str, float]
    std_errors: Mapping[str, float]
    block_targets: int
    block_nll_nats: Sequence[float]
    seconds: float
    adaptation: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Raw samples of one timed operation, in milliseconds."""

    name: str
    samples_ms: Sequence[float]
    num_warmup: int
    clock: str
    bytes_moved: int | None = None
    flops: int | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """What one sensor read over time; `reason` says why there are no values."""

    sensor: str
    unit: str
    times_s: Sequence[float]
    values: Sequence[float]
    reason: str | None = None


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

    def on(self, device: str) -> RunSpec:
        return replace(self, device=device)


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


@dataclass(frozen=True, slots=True)
class Corpus:
    """A prepared dataset. Splits are memory-mapped one-dimensional arrays of token ids.

    vocabulary[i] is the text of token i (for bytes, the number as a string). num_units counts per
    split what a metric may divide by. manifest holds sources, checksums and counts as recorded.
    """

    name: str
    unit: str
    splits: Mapping[str, np.ndarray]
    vocabulary: Sequence[str]
    num_units: Mapping[str, int]
    limits: Mapping[str, float]
    manifest: Mapping[str, Any]

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)


@dataclass(slots=True)
class RunRecord:
    """All that is known of one run. Written whole or not at all; read back by `store`.

    status is finished, failed or diverged. What varies with wall time stands in `seconds`, `started_at`,
    `attempts`, `timings`, `costs`, `traces` and in names ending in `_s`, `_per_s` or `seconds`; nothing else does.
    timings are rows of `harness.bench.kernels`: a Timing with op, backend, case, direction and what was derived from
    it. costs is `harness.meter.Meter.account`'s, None in records made before there were sensors; traces are rows of
    what was sampled, thinned.
    """

    run_id: str
    spec: RunSpec
    status: str
    error: str | None = None
    started_at: str = ""
    seconds: float = 0.0
    attempts: list[dict[str, Any]] = field(default_factory=list)
    code: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] | None = None
    scores: list[dict[str, Any]] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)
    timings: list[dict[str, Any]] = field(default_factory=list)
    traces: list[dict[str, Any]] = field(default_factory=list)
    costs: dict[str, Any] | None = None
    schema: int = RECORD_SCHEMA


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no spaces, no NaN; 2.0 and 2 stay apart as YAML gave them."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)


def content_hash(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def finite_or_none(value: float) -> float | None:
    """JSON has no NaN and no infinity: they become null, and the record's status says why."""
    return value if math.isfinite(value) else None


def _without_window(block: Mapping[str, Any]) -> dict[str, Any]:
    """A block that says how to score, without the tokens per forward pass."""
    return {key: value for key, value in block.items() if key != "window"}


def recipe_identity(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe whose validation says nothing of its window; the lengths it trains on (`windows`) stay."""
    validation = recipe.get("validation")
    return {**recipe, "validation": _without_window(validation)} if validation else dict(recipe)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"cannot hash a {type(value).__name__}")
