"""The baseline of the quality gate: a JSON file of rows, and the same rows as measured from records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from harness.core.config import speed as switches
from harness.core.errors import NotComparableError, StoreError, writing
from harness.core.hashing import canonical_json, content_hash
from harness.core.json_values import parse_json
from harness.core.messages import reason
from harness.core.metrics import metric_named, std_error_of, value_of
from harness.core.scores import EvaluationProtocol, Score
from harness.core.specs import Label, RunSpec
from harness.report import primary_protocol
from harness.results.record import RunRecord
from harness.results.record_file import json_text
from harness.system.files import write_atomic
from harness.system.reading import read_bytes

SCHEMA = 1

Kind = Literal["quality", "limit"]


Identity = tuple[str, str, str, int, str, str, Kind]


@dataclass(frozen=True, slots=True)
class Protocol:
    """The settings of a protocol that change a score. The window is not among them: it changes the speed only."""

    __pydantic_config__ = {"extra": "forbid"}

    name: str
    num_streams: int
    warmup: int
    carried_state: bool
    targets: str
    denominator: str


@dataclass(frozen=True, slots=True)
class Blocks:
    """Loss in nats of each block of the text, and what it is divided by; the last may be shorter."""

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}

    units: tuple[Annotated[float, Field(gt=0)], ...]
    nll_nats: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.units) != len(self.nll_nats):
            raise ValueError(f"{len(self.nll_nats)} losses have {len(self.units)} units")


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a tolerance was set.

    Attributes:
        num_seeds, mean, spread: runs that it was set from, with the mean and the standard deviation of their values.
        margin: how much worse than the mean a run may be; the tolerance counts from the row's value instead.
        text: half the 95 % interval of a paired difference of seeds, added where there are blocks, else 0.
        false_alarms, confidence, num_rows: honest runs raise an alarm in any of so many rows at no more than this rate,
            in this share of calibrations.
        power: chance of an alarm by how much worse a run is, relative to the value; empty if blocks were added
            since.
        repeat_spread: standard deviation over repeats of one seed; None without any.
    """

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}

    num_seeds: int
    mean: float
    spread: float
    margin: float
    text: float
    false_alarms: float
    confidence: float
    num_rows: int
    power: dict[str, float]
    repeat_spread: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineRow:
    """One expected value.

    Attributes:
        suite, entry, profile, seed, split, metric, kind: which value. `quality` is a score, `limit` the best value that
            the data allows.
        value: expected, in the metric's unit.
        tolerance: absolute, in the metric's unit.
        quality_identity: hash of the model, recipe, data and evaluation.
        protocol, num_targets, num_units: what was scored; None if nothing was.
        machine: fingerprint of the machine that measured it.
        two_sided: a better value is a regression too. It is set for models that were never trained.
        blocks: of the score. With them a regression is a paired difference whose 95 % interval is beyond the tolerance.
        calibration: how the tolerance was set; None for a default or a person's choice.
    """

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}

    suite: str
    entry: str
    profile: str
    seed: int
    split: str
    metric: str
    kind: Kind
    value: float
    tolerance: Annotated[float, Field(ge=0)]
    quality_identity: str
    protocol: Protocol | None
    num_targets: Annotated[int, Field(ge=0)] | None
    num_units: Annotated[int, Field(ge=0)] | None
    machine: str | None
    two_sided: bool = False
    blocks: Blocks | None = None
    calibration: Calibration | None = None

    @property
    def identity(self) -> Identity:
        """The fields that tell one row from another."""
        return (self.suite, self.profile, self.entry, self.seed, self.split, self.metric, self.kind)


@dataclass(frozen=True, slots=True)
class _File:
    __pydantic_config__ = {"extra": "forbid"}

    schema: Literal[1]
    rows: list[BaselineRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The same value as one record has it; None if there is no finite one, and `error` says why.

    `code` is what made it; `beyond_limit`: better than the data allows; `untrained`: neither recipe nor checkpoint, so
    the value is the same every time; `variant`: device kind, dtype, kernel and speed switches, in which runs of one
    identity and seed may differ. The others are as in `BaselineRow`.
    """

    identity: Identity
    value: float | None
    error: str | None
    quality_identity: str
    protocol: Protocol | None
    num_targets: int | None
    num_units: int | None
    machine: str | None
    code: Mapping[str, Any]
    started_at: str
    run_id: str
    beyond_limit: bool
    untrained: bool
    variant: tuple[str, ...]
    blocks: Blocks | None = None


def measure(records: Iterable[tuple[RunRecord, Sequence[Label]]]) -> list[Measured]:
    """Every value that a gate can check, in the order the runs were started: ranking scores and the data's limits."""
    rows = [row for record, labels in records for label in labels for row in _of_label(record, label)]
    return _limits_once(sorted(rows, key=lambda row: (row.started_at, row.run_id)))


def read(path: Path) -> list[BaselineRow]:
    """Rows of a baseline file, sorted. Raises NotComparableError if it has none, StoreError if it cannot be read."""
    try:
        rows = parse_json(_File, read_bytes(path)).rows
    except FileNotFoundError as error:
        raise StoreError(f"{path}: there is no baseline; make one with --update") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {reason(error)}") from error
    except ValueError as error:
        raise StoreError(f"{path}: is not a baseline: {reason(error)}") from error
    # Merging two versions of the file by hand is how a row comes twice.
    if len({row.identity for row in rows}) != len(rows):
        raise StoreError(f"{path}: is not a baseline: a row occurs twice")
    if not rows:
        raise NotComparableError(f"{path}: the baseline has no rows; fill it with --update")
    return sorted(rows, key=lambda row: row.identity)


def write(path: Path, rows: Iterable[BaselineRow]) -> None:
    """Replace the file in one step. Rows are sorted, so equal rows make equal files. Raises StoreError."""
    ordered = [
        # Files from before these keys stay as they are, byte for byte.
        {key: value for key, value in asdict(row).items() if value is not None or key not in ("blocks", "calibration")}
        for row in sorted(rows, key=lambda row: row.identity)
    ]
    with writing(path):
        write_atomic(path, json_text({"schema": SCHEMA, "rows": ordered}))


def _of_label(record: RunRecord, label: Label) -> Iterator[Measured]:
    scores = {each.split: each for each in record.scores if each.protocol.name == primary_protocol(record, each.split)}
    splits = dict.fromkeys([*(split for _, split in record.spec.evaluation.scored), *scores])
    for metric in label.metrics:
        for split in splits:
            yield _quality(record, label, split, metric, scores.get(split))
        limit = (record.data.get("limits") or {}).get(metric)
        if limit is not None:
            data = content_hash(record.spec.dataset_identity)
            row = _measured(record, label, ("limit", 0, "data", metric, "limit"), limit, identity=data)
            # A limit is a property of the data: device, dtype and kernel do not matter to it.
            yield replace(row, variant=())


def _quality(record: RunRecord, label: Label, split: str, metric: str, score: Score | None) -> Measured:
    place: tuple[str, int, str, str, Kind] = (label.entry, record.spec.seed, split, metric, "quality")
    if record.status != "finished":
        return _measured(record, label, place, None, error=f"{record.status}: {record.error}", score=score)
    if score is None:
        return _measured(record, label, place, None, error="the record holds no such score")
    value, limit = value_of(score, metric), (record.data.get("limits") or {}).get(metric)
    return replace(
        _measured(record, label, place, value, error="the score is not a finite number", score=score),
        beyond_limit=metric_named(metric).is_beyond(limit, value, std_error_of(score, metric)),
        # A model that learns while it is scored depends on rounding, as a trained one does.
        untrained=record.spec.recipe is None
        and record.spec.checkpoint is None
        and not record.spec.evaluation.is_prequential,
        blocks=_blocks(score, metric),
    )


def _measured(
    record: RunRecord,
    label: Label,
    place: tuple[str, int, str, str, Kind],
    value: float | None,
    *,
    error: str | None = None,
    score: Score | None = None,
    identity: str | None = None,
) -> Measured:
    return Measured(
        identity=(label.suite, label.profile, *place),
        value=value,
        error=error if value is None else None,
        quality_identity=identity or record.spec.quality_identity,
        protocol=_protocol(score.protocol) if score else None,
        num_targets=score.tally.num_targets if score else None,
        num_units=score.tally.num_units if score else None,
        machine=record.machine.get("fingerprint"),
        code=record.code,
        started_at=record.started_at,
        run_id=record.run_id,
        beyond_limit=False,
        untrained=False,
        variant=_variant(record.spec),
    )


def _blocks(score: Score, metric: str) -> Blocks | None:
    count = metric_named(metric).count(score.tally)
    return Blocks(score.block_units(count), tuple(score.block_nll_nats)) if score.has_blocks() and count else None


def _protocol(protocol: EvaluationProtocol) -> Protocol:
    return Protocol(**{field.name: getattr(protocol, field.name) for field in fields(Protocol)})


def _variant(spec: RunSpec) -> tuple[str, ...]:
    return (spec.device.split(":")[0], spec.dtype, f"kernel {spec.kernel}", *switches.names(spec.speed, spec.device))


def _limits_once(rows: Sequence[Measured]) -> list[Measured]:
    """The rows, with one limit for all runs over the same data by the same code: that of the last run."""
    # From the last run backwards: the newest limit is the one that stays.
    seen: set[tuple[Identity, float | None, str, str]] = set()
    result = []
    for row in reversed(rows):
        if row.identity[-1] == "limit":
            limit = (row.identity, row.value, row.quality_identity, canonical_json(row.code))
            if limit in seen:
                continue
            seen.add(limit)
        result.append(row)
    return result[::-1]
