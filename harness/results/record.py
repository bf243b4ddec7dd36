"""The record of one run, and its parts that are open to keys of other versions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, ConfigDict, with_config
from typing_extensions import TypedDict

from harness.core.json_values import FILE_BLOCK, parse_value
from harness.core.metrics import METRICS
from harness.core.scores import Coding, Score, Tally
from harness.core.specs import RunSpec
from harness.results.costs import Attempt, Costs

RECORD_SCHEMA = 2
"""2 added `costs`, and rows in `traces`; records of schema 1 are read as made without sensors."""


# Blocks whose further keys are shown to nobody: they are kept as they are.
OPEN = ConfigDict(extra="allow", allow_inf_nan=False)


@with_config(OPEN)
class Code(TypedDict, total=False):
    """Which code made a record: `harness.system.source.installed`."""

    version: str
    source_sha256: str


@with_config(OPEN)
class Machine(TypedDict, total=False):
    """The machine of the last attempt; `several` lists the fingerprints if attempts ran on different ones."""

    device_name: str | None
    fingerprint: str | None
    several: list[str]


@with_config(OPEN)
class Data(TypedDict, total=False):
    """The manifest of the prepared dataset; `limits` are the best values that the data allows, by metric."""

    limits: dict[str, float | None] | None


@with_config(OPEN)
class Model(TypedDict, total=False):
    """The model that was trained or loaded."""

    builder: str
    num_parameters: int | None
    dtype: str
    kernels: dict[str, str]
    forward_flops_per_token: int | None
    weights_dtype: str
    speed: dict[str, Any]
    unverified: list[str]


@with_config(OPEN)
class Training(TypedDict, total=False):
    """How training went."""

    tokens: float | None
    tokens_per_s: float | None
    seconds: float | None


@with_config(OPEN)
class KernelRow(TypedDict):
    """One timed kernel. Without the status `ok`, `error` says why and there are no times."""

    op: str
    backend: str
    case: str
    direction: str
    dtype: str
    status: str
    error: str | None
    ms_with_launch: NotRequired[float | None]


@with_config(OPEN)
class TimedRow(KernelRow):
    """A kernel that was timed."""

    ms: float | None
    ms_warm: float | None
    gb_per_s: float | None
    share_of_copy: float | None
    share_of_triad: float | None
    gflop_per_s: float | None
    share_of_gemm: float | None
    speedup_over_chain: float | None


def _check_kernel_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that name an operation are shown as timed kernels, so they must be whole."""
    for index, row in enumerate(rows):
        if "op" in row:
            try:
                parse_value(TimedRow if row.get("status") == "ok" else KernelRow, row)
            except ValueError as error:
                raise ValueError(f"{index}.{error}") from None
    return rows


def _has(block: Any) -> AfterValidator:
    """Check the known keys of a dictionary and keep the others."""

    def check(value: dict[str, Any]) -> dict[str, Any]:
        parse_value(block, value)
        return value

    return AfterValidator(check)


@dataclass(slots=True)
class RunRecord:
    """Everything known of one run. `Store` writes it whole and reads it back.

    Only `seconds`, `started_at`, `attempts`, `timings`, `costs`, `traces` and names ending in `_s`, `_per_s` or
    `seconds` vary with wall time.

    `status` is `finished`, `failed`, `diverged` or `pruned` (stopped by a search), and `error` says why it did not
    finish; `started_at` (ISO 8601) and `seconds` are those of the last of the `attempts`; `scores` has one per split
    and protocol, `curve` the rows of the learning curve, `timings` those of `harness.timing.backends`, `traces` thinned
    sensor readings. `costs` is None in records made before there were sensors.
    """

    __pydantic_config__ = FILE_BLOCK

    run_id: str
    spec: RunSpec
    status: str
    error: str | None = None
    started_at: str = ""
    seconds: float = 0.0
    attempts: list[Attempt] = field(default_factory=list)
    code: Annotated[dict[str, Any], _has(Code)] = field(default_factory=dict)
    machine: Annotated[dict[str, Any], _has(Machine)] = field(default_factory=dict)
    data: Annotated[dict[str, Any], _has(Data)] = field(default_factory=dict)
    model: Annotated[dict[str, Any], _has(Model)] = field(default_factory=dict)
    training: Annotated[dict[str, Any], _has(Training)] | None = None
    scores: list[Score] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)
    timings: Annotated[list[dict[str, Any]], AfterValidator(_check_kernel_rows)] = field(default_factory=list)
    traces: list[dict[str, Any]] = field(default_factory=list)
    costs: Costs | None = None
    schema: int = RECORD_SCHEMA

    @property
    def passed_audits(self) -> bool:
        """Whether no score failed an audit; true of scores that were not audited."""
        return all(score.audit is None or score.audit.passed for score in self.scores)


def check_sums(record: RunRecord) -> None:
    """Hold a record against itself: metrics follow from the tally, blocks add up to it, counts fit the split.

    Raises ValueError that names the first part that does not fit.
    """
    for index, score in enumerate(record.scores):
        where, tally = f"scores.{index}", score.tally
        if score.coding is not None:
            _check_coding(score.coding, tally, where)
        for name, value in score.metrics.items():
            if name in METRICS and not _equal(value, METRICS[name].compute(tally)):
                raise ValueError(f"{where}.metrics.{name} does not follow from the tally")
        for name in ("num_bytes", "num_chars", "num_words"):
            part, whole = getattr(tally, name), getattr(score.text, name, None)
            if part is not None and (whole is None or not 0 <= part <= whole):
                raise ValueError(f"{where}.tally.{name} is {part} of a text of {whole}")
        if score.block_nll_nats:
            size = score.block_targets
            if size < 1 or len(score.block_nll_nats) != max(1, math.ceil(tally.num_targets / size)):
                raise ValueError(f"{where}.block_targets does not fit the number of blocks")
            if not _equal(math.fsum(score.block_nll_nats), tally.nll_nats):
                raise ValueError(f"{where}.block_nll_nats do not add up to the tally")
        counts = record.data.get("counts")
        split = counts.get(score.split) if isinstance(counts, dict) else None
        tokens = split.get("tokens") if isinstance(split, dict) else None
        if tokens is not None and tally.num_targets + tally.num_dropped != tokens:
            raise ValueError(f"{where}.tally does not count the {tokens} tokens of {score.split}")


def _check_coding(coding: Coding, tally: Tally, where: str) -> None:
    first, *others = coding.files
    if first.file_bytes - sum(each.file_bytes for each in others) != coding.num_bytes:
        raise ValueError(f"{where}.coding.num_bytes is not the size of its files")
    if not _equal(coding.nats, tally.nll_nats):
        raise ValueError(f"{where}.tally.nll_nats does not follow from coding.num_bytes")


def _equal(one: float, other: float) -> bool:
    # Sums in another order differ by rounding. Infinities and NaN are null in the file.
    return math.isclose(one, other, rel_tol=1e-9) or not (math.isfinite(one) or math.isfinite(other))
