"""One line of a table: a value with everything needed to judge it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from harness.core.metrics import METRICS
from harness.monitoring.costs.columns import COST_KEYS

FINISHED, PUBLISHED, LIMIT = "finished", "published", "limit"
NO_PROTOCOL = (PUBLISHED, LIMIT)

DECIMALS = {"bpc": 3, "perplexity": 2}
OTHER_DECIMALS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A value of ours, a published one, or a limit; status says which, or what kept it from being one.

    status: finished, failed, diverged or interrupted for runs of ours, else published or limit. value is None
    exactly where there is none, and error then says why. A row stands for all `seeds` that differ in nothing else:
    value is their mean, seed_std their deviation (n - 1); std_error is that of a single run's value over its text.
    difference is value less published, seconds and tokens_per_s are training's, data is a hash of the dataset's
    identity. speed names the switches of the training step that were on. rank is the place among values of one
    protocol, None for rows that are not ranked. recipe_id is a hash of model and recipe; changed says whether they are
    other than the installed suite's, None where it has no such entry. beyond_limit: better than the data allows, so
    something is wrong with the run. costs are the figures of `harness.monitoring.costs.columns.COST_COLUMNS`; unknown
    maps each that is null, seconds and tokens_per_s among them, to its reason.
    """

    task: str
    dataset: str
    metric: str
    split: str
    protocol: str
    value: float | None
    model: str
    entry: str
    params: int | None = None
    published: float | None = None
    status: str
    difference: float | None = None
    std_error: float | None = None
    seeds: int | None = None
    seed_mean: float | None = None
    seed_std: float | None = None
    tokens_per_s: float | None = None
    seconds: float | None = None
    device: str | None = None
    suite: str | None = None
    profile: str | None = None
    source: str | None = None
    run_ids: tuple[str, ...] = ()
    num_targets: int | None = None
    denominator: str | None = None
    code: str | None = None
    error: str | None = None
    dataset_title: str
    metric_title: str
    seed_list: tuple[int, ...] = ()
    published_id: str | None = None
    data: str | None = None
    limit: float | None = None
    rank: int | None = None
    dtype: str | None = None
    kernel: str | None = None
    speed: tuple[str, ...] = ()
    device_kind: str | None = None
    recipe_id: str | None = None
    changed: bool | None = None
    beyond_limit: bool = False
    costs: Mapping[str, float | None] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    decimals: int = OTHER_DECIMALS
    own_text: bool = False
    several_recipes: bool = False
    adaptive: bool = False

    def to_json(self) -> dict[str, Any]:
        """Keys in the order above; what only serves to build and print is left out."""
        row = {key: self.figure(key) if key in COST_KEYS else getattr(self, key) for key in JSON_KEYS}
        row = {key: list(value) if isinstance(value, tuple) else value for key, value in row.items()}
        return {**row, "unknown": dict(self.unknown)}

    def figure(self, key: str) -> float | None:
        """A figure of cost, or of training's speed, by its key; None if unknown."""
        value: float | None = self.costs.get(key) if key in COST_KEYS else getattr(self, key)
        return value

    @property
    def group(self) -> tuple[str, str, str, str, str]:
        """What must be equal for two values to be compared at all."""
        return (self.task, self.dataset, self.metric, self.split, self.data or "")


_FOR_PRINT = ("decimals", "own_text", "several_recipes", "adaptive")

# The figures of cost are keys of their own, in the place of `costs`.
JSON_KEYS = tuple(
    key
    for each in fields(Row)
    if each.name not in _FOR_PRINT
    for key in (COST_KEYS if each.name == "costs" else (each.name,))
)


def metric_title(metric: str, split: str) -> str:
    return METRICS[metric].title_for(split) if metric in METRICS else metric


def higher_is_better(metric: str) -> bool:
    return metric in METRICS and METRICS[metric].higher_is_better


def decimals_of(metric: str) -> int:
    return DECIMALS.get(metric, OTHER_DECIMALS)
