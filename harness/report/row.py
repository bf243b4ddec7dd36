"""One line of a table: a value with everything needed to judge it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from harness.core.metrics import Metric, metric_named
from harness.monitoring.costs.columns import COST_KEYS

if TYPE_CHECKING:
    from harness.report.intervals import BlockSums

FINISHED, PUBLISHED, LIMIT = "finished", "published", "limit"
NO_PROTOCOL = (PUBLISHED, LIMIT)

# Figures of cost that the trainer measures; the sensors measure the others.
TRAINING_KEYS = ("tokens_per_s", "seconds")
FIGURE_KEYS = (*TRAINING_KEYS, *COST_KEYS)

_HIDDEN = {"in_json": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A value of ours, a published value, or the limit of the data.

    A row of ours combines all seeds that differ in nothing else. JSON and CSV have the fields as keys, in this order.

    Attributes:
        value: mean over the seeds; None if there is no value, and `error` says why.
        params: number of parameters of the model.
        published, published_id: the published row to compare with; `difference` is value - published.
        status: `published`, `limit`, or the status of our runs, such as `finished` and `failed`.
        std_error: of a single run over its text; None for several seeds, of which `seed_std` is the deviation (n - 1).
        tokens_per_s, seconds: of training.
        speed: the speed-ups that were on.
        source: of a published value or a limit; `code` is that of a run.
        denominator: what the loss is divided by.
        data: hash of the dataset's identity.
        limit: best value that the data allows; `beyond_limit`: ours is better, so something is wrong with the run.
        rank: among the values of one protocol; None if not ranked.
        recipe_id: hash of model and recipe.
        changed: whether they differ from the installed suite's; None if no installed suite has the entry.
        ci95_low, ci95_high: 95 % interval of the value: of one run over its text, of several seeds over the seeds.
        ties_best: whether a paired comparison cannot tell it from the best of ours; None where there is none.
        file_bytes, mb_per_s: of a compressor: size of the file that the value is of, or difference of two, and millions
            of bytes of text that it compressed per second.
        costs: the figures of `harness.monitoring.costs.columns`, each a key of its own in JSON.
        unknown: key -> reason, for each figure of cost that is None.
        audit: `passed`, or `failed` with the names of checks; None if a seed was not audited.
        blocks: loss by block of the text, for comparisons; not in JSON, as all fields from `decimals` on.
        own_text: whether the data is the user's own, which no published value is about.
        several_recipes: whether other rows have the same name and another recipe.
        adaptive: whether a published model learns from the text it is scored on.
        published_protocol: of a published row that names one.
        text_note, text_count: of a metric that divides by the text: what the text is, and the count.
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
    ci95_low: float | None = None
    ci95_high: float | None = None
    ties_best: bool | None = None
    file_bytes: int | None = None
    mb_per_s: float | None = None
    costs: Mapping[str, float | None] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    audit: str | None = None
    # The keys of JSON and CSV end here. Scripts of users read them, so none may be renamed.
    decimals: int = field(default=3, metadata=_HIDDEN)
    blocks: BlockSums | None = field(default=None, metadata=_HIDDEN)
    own_text: bool = field(default=False, metadata=_HIDDEN)
    several_recipes: bool = field(default=False, metadata=_HIDDEN)
    adaptive: bool = field(default=False, metadata=_HIDDEN)
    text_note: str | None = field(default=None, metadata=_HIDDEN)
    text_count: int | None = field(default=None, metadata=_HIDDEN)
    published_protocol: str | None = field(default=None, metadata=_HIDDEN)

    def to_json(self) -> dict[str, object]:
        """The row under `JSON_KEYS`, tuples as lists."""
        row = {key: self.figure(key) if key in COST_KEYS else getattr(self, key) for key in JSON_KEYS}
        row = {key: list(value) if isinstance(value, tuple) else value for key, value in row.items()}
        return {**row, "unknown": dict(self.unknown)}

    def figure(self, key: str) -> float | None:
        """A figure of cost by its key; None if unknown."""
        value: float | None = self.costs.get(key) if key in COST_KEYS else getattr(self, key)
        return value

    @property
    def group(self) -> tuple[str, str, str, str, str]:
        """What two rows must share to be compared."""
        return (self.task, self.dataset, self.metric, self.split, self.data or "")

    @property
    def is_ours(self) -> bool:
        return self.status not in NO_PROTOCOL

    @property
    def is_earlier_record(self) -> bool:
        """Whether a published row is of an earlier run of ours, which its source names; it takes no rank."""
        return self.status == PUBLISHED and (self.source or "").startswith("results/")

    @property
    def of_metric(self) -> Metric:
        return metric_named(self.metric)


# The figures of cost are keys of their own, in the place of `costs`.
JSON_KEYS = tuple(
    key
    for each in fields(Row)
    if each.metadata.get("in_json", True)
    for key in (COST_KEYS if each.name == "costs" else (each.name,))
)
