"""The types that check a suite file; its JSON Schema is generated from them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.core.config.evaluation import Adaptive, Evaluation
from harness.core.config.recipe import Recipe
from harness.core.config.speed import Speed
from harness.core.messages import short

DEFAULT_PROFILE = "full"  # the suite itself; quick profiles are smaller
DEFAULT_TASK = "Language Modelling"
MAX_SEED = 2**32 - 1  # NumPy's limit for a seed; torch and Python accept more
# Safe in file names on every system, and without the dot that separates the keys of `--set`.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

Dtype = Literal["float32", "bfloat16", "float16", "float64", "auto"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryBlock:
    """One model of a suite: its builder and config, and the source of its weights.

    Attributes:
        model: `builder` and the settings of the model.
        title: its name in tables.
        recipe: trains it. A model without parameters has neither recipe nor checkpoint.
        checkpoint: folder of trained weights, relative to the suite file.
        published: the row of published values that it is compared with.
        dtype: of the training step; weights stay float32. `auto` is bfloat16 on a CPU that multiplies it faster,
            else float32: a run's id and record name the one it was.
        kernel: backend of the model's main operation.
        speed: faster ways to compute the same step.
        adaptive: replaces the suite's `evaluation.adaptive`.
        audit: replaces the suite's `audit`.
        space: values that `harness search` tries, by key, such as `recipe.lr`; it changes no run of the entry itself.
    """

    __pydantic_config__ = {"extra": "forbid"}

    model: dict[str, Any]  # its class depends on `builder`: `rules.model_config` checks it
    title: str | None = None
    recipe: Recipe | None = None
    checkpoint: str | None = None
    published: str | None = None
    dtype: Dtype = "float32"
    kernel: str = "auto"
    speed: Speed = field(default_factory=Speed)
    adaptive: Adaptive | None = None
    audit: bool | None = None
    space: Any = None  # parameters by key: `space.check_space` checks them, since few suites have any

    def __post_init__(self) -> None:
        averages = self.recipe is not None and bool(self.recipe.averaging or self.recipe.finetune)
        # float16 scales the loss and skips a step that overflows by `found_inf`, which torch's ASGD does not read.
        if self.dtype == "float16" and averages:
            raise ValueError(
                "dtype float16 needs an optimiser that can skip a step, which averaged SGD cannot; use bfloat16"
            )
        # The switch replaces the optimiser, but graphs captured before it would still run the old one's kernels.
        if self.speed.graph and averages:
            raise ValueError("speed.graph does not support a recipe that switches to averaged SGD; remove it")
        if self.recipe is not None and self.recipe.clip_embedding == "occurrences":
            self._check_occurrences()
        if self.speed.graph and self.model.get("cutoffs"):
            raise ValueError("speed.graph cannot capture a softmax with cutoffs, whose clusters change size each step")

    def _check_occurrences(self) -> None:
        # A tied matrix has gradients of the softmax too, which belong to no token of the input.
        if self.model.get("builder") not in ("awd-lstm", "qrnn") or self.model.get("tie", True):
            raise ValueError(
                "recipe.clip_embedding: occurrences needs an embedding of its own: builder awd-lstm or qrnn, tie: false"
            )
        if self.speed.folded_clip or self.speed.graph or self.dtype == "float16":
            raise ValueError(
                "recipe.clip_embedding: occurrences needs a step that clips by itself: no speed.folded_clip, no "
                "speed.graph, not float16"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteBlock:
    """A dataset, its metrics, and the models to train or load; profiles define smaller or larger variants.

    Attributes:
        suite: name of the suite.
        dataset: a registered name, or a block.
        metrics: shown in tables; progress and learning curves are in the first.
        entries: the models, by name.
        task: in tables.
        dataset_title: name of the data in tables.
        seeds: each entry runs once under each.
        evaluation: how to score.
        kernels: ops to check and time at the models' shapes after scoring.
        checkpoint_every_s: time between two checkpoints of a run, in seconds.
        audit: check after a run that its scores are lengths of codes; needs the extra `audit`.
    """

    __pydantic_config__ = {"extra": "forbid"}

    suite: str
    dataset: Any  # a name or a block of one of several kinds: `rules.dataset_config` checks it
    metrics: tuple[str, ...]
    entries: dict[str, EntryBlock]
    task: str = DEFAULT_TASK
    dataset_title: str | None = None
    seeds: tuple[int, ...] = (1,)
    evaluation: Evaluation = field(default_factory=Evaluation)
    kernels: tuple[str, ...] = ()
    checkpoint_every_s: float = 60.0
    audit: bool = False

    def __post_init__(self) -> None:
        if not is_name(self.suite):
            raise ValueError(f"suite {name_rule(self.suite)}")
        if not self.entries:
            raise ValueError("entries must hold at least one model")
        for name in ("metrics", "seeds"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"{name} must hold at least one value")
        for name in ("metrics", "seeds", "kernels"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name} names one twice: {list(values)}")
        check_seeds(self.seeds)
        if not 0 < self.checkpoint_every_s <= 1e9:
            raise ValueError(f"checkpoint_every_s must be positive seconds, got {self.checkpoint_every_s}")


def check_seeds(seeds: Iterable[int]) -> None:
    """Raise ValueError unless every seed is in 0..MAX_SEED."""
    for seed in seeds:
        if not 0 <= seed <= MAX_SEED:
            raise ValueError(f"seeds must be in 0..{MAX_SEED}, got {seed}")


def is_name(text: str) -> bool:
    """Whether a name is safe in a file name and in a dotted `--set` path."""
    return _NAME.fullmatch(text) is not None


def name_rule(text: str) -> str:
    """The message for a name that `is_name` refuses."""
    return f"'{short(text)}' must be at most 64 letters, digits, '-' and '_', and start with a letter or digit"
