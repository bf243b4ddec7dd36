"""The gate's baseline: a JSON file of rows, and the same rows as records have them now."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from harness.config import speed as switches
from harness.core.errors import NotComparableError, StoreError
from harness.core.hashing import canonical_json, content_hash
from harness.core.scores import Score
from harness.core.specs import Label, RunSpec
from harness.report.measured import is_beyond_limit, metric_std_error, metric_value, primary_protocol
from harness.results.record import RunRecord
from harness.system.files import write_atomic

SCHEMA = 1

Kind = Literal["quality", "limit", "speed"]
KINDS: tuple[Kind, ...] = ("quality", "limit", "speed")

SPEED_METRIC = "tokens_per_s"

PROTOCOL_KEYS = ("name", "num_streams", "warmup", "carried_state", "targets", "denominator")
"""What makes a score a score of something; the window changes its speed only."""

Identity = tuple[str, str, str, int, str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineRow:
    """One value to hold. tolerance is absolute, in the metric's unit.

    kind: quality is a score, limit what the data itself allows, speed training's tokens per second.
    protocol, num_targets and num_units are null where nothing was scored; machine is its fingerprint.
    two_sided: better by more than the tolerance is a regression too, as nothing was learned that could improve.
    """

    suite: str
    entry: str
    profile: str
    seed: int
    split: str
    metric: str
    kind: Kind
    value: float
    tolerance: float
    quality_identity: str
    protocol: Mapping[str, Any] | None
    num_targets: int | None
    num_units: int | None
    machine: str | None
    two_sided: bool = False

    @property
    def identity(self) -> Identity:
        """Which row it is; everything else is what it says."""
        return (self.suite, self.profile, self.entry, self.seed, self.split, self.metric, self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The same row as one record has it. value is None where there is none, and error says why.

    beyond_limit: the value is better than the data allows. untrained: a score of neither recipe nor checkpoint,
    the same every time. variant is what runs of one quality identity and seed differ in: device kind, dtype, kernel,
    and the switches of speed that were on.
    """

    identity: Identity
    value: float | None
    error: str | None
    quality_identity: str
    protocol: Mapping[str, Any] | None
    num_targets: int | None
    num_units: int | None
    machine: str | None
    code: Mapping[str, Any]
    started_at: str
    run_id: str
    beyond_limit: bool
    untrained: bool
    variant: tuple[str, ...]


def measure(records: Iterable[tuple[RunRecord, Sequence[Label]]]) -> list[Measured]:
    """Every row a gate could hold, in the order the runs were started.

    They are the ranking protocol's scores, the data's limits and the speed of training.
    """
    found = [row for record, labels in records for label in labels for row in _of_label(record, label)]
    return _limits_once(sorted(found, key=lambda row: (row.started_at, row.run_id)))


def read(path: Path) -> list[BaselineRow]:
    """Rows of a baseline file, sorted. Raises NotComparableError where it is missing or empty, else StoreError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotComparableError(f"{path}: there is no baseline; make one with --update") from error
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read: {error}") from error
    try:
        content = json.loads(text, parse_constant=_no_constant)
        if not isinstance(content, dict) or set(content) != {"schema", "rows"}:
            raise ValueError("must be an object of schema and rows")
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema is {content['schema']!r}, this harness reads {SCHEMA}")
        if not isinstance(content["rows"], list):
            raise ValueError("rows must be a list")
        rows = [_row(value, number) for number, value in enumerate(content["rows"], start=1)]
    except ValueError as error:
        raise StoreError(f"{path}: is not a baseline: {error}") from error
    if len({row.identity for row in rows}) != len(rows):
        raise StoreError(f"{path}: is not a baseline: one row stands twice")
    if not rows:
        raise NotComparableError(f"{path}: the baseline has no rows; fill it with --update")
    return sorted(rows, key=lambda row: row.identity)


def write(path: Path, rows: Iterable[BaselineRow]) -> None:
    """Replace the file in one step; rows are sorted, so that equal rows make equal files. Raises StoreError."""
    ordered = [asdict(row) for row in sorted(rows, key=lambda row: row.identity)]
    text = json.dumps({"schema": SCHEMA, "rows": ordered}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from error


def _of_label(record: RunRecord, label: Label) -> Iterator[Measured]:
    scores = {score.split: score for score in record.scores if score.protocol.name == primary_protocol(record)}
    splits = dict.fromkeys([*record.spec.evaluation.splits, *scores])
    for metric in label.metrics:
        for split in splits:
            yield _quality(record, label, split, metric, scores.get(split))
        limit = (record.data.get("limits") or {}).get(metric)
        if limit is not None:
            data = content_hash(record.spec.dataset_identity)
            row = _measured(record, label, ("limit", 0, "data", metric, "limit"), limit, identity=data)
            yield replace(row, variant=())
    if record.training is not None or record.spec.recipe is not None:
        speed = (record.training or {}).get("tokens_per_s")
        place = (label.entry, record.spec.seed, "train", SPEED_METRIC, "speed")
        yield _measured(record, label, place, speed, error=record.error or "the record holds no speed")


def _quality(record: RunRecord, label: Label, split: str, metric: str, score: Score | None) -> Measured:
    place = (label.entry, record.spec.seed, split, metric, "quality")
    if record.status != "finished":
        return _measured(record, label, place, None, error=f"{record.status}: {record.error}", score=score)
    if score is None:
        return _measured(record, label, place, None, error="the record holds no such score")
    value, limit = metric_value(score, metric), (record.data.get("limits") or {}).get(metric)
    return replace(
        _measured(record, label, place, value, error="the score is not a finite number", score=score),
        beyond_limit=is_beyond_limit(value, metric_std_error(score, metric), limit, metric),
        untrained=record.spec.recipe is None and record.spec.checkpoint is None,
    )


def _measured(
    record: RunRecord,
    label: Label,
    place: tuple[str, int, str, str, str],
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
        protocol={key: getattr(score.protocol, key) for key in PROTOCOL_KEYS} if score else None,
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


def _variant(spec: RunSpec) -> tuple[str, ...]:
    return (spec.device.split(":")[0], spec.dtype, f"kernel {spec.kernel}", *switches.names(spec.speed, spec.device))


def _limits_once(rows: Sequence[Measured]) -> list[Measured]:
    """The rows; of runs over the same data, by the same code, only the last says their limit."""
    said: set[tuple[Identity, float | None, str, str]] = set()
    kept = []
    for row in reversed(rows):
        if row.identity[-1] == "limit":
            limit = (row.identity, row.value, row.quality_identity, canonical_json(row.code))
            if limit in said:
                continue
            said.add(limit)
        kept.append(row)
    return kept[::-1]


def _row(value: Any, number: int) -> BaselineRow:
    """One row, every type checked; older files have no `two_sided`. Raises ValueError naming row and key."""
    if not isinstance(value, dict):
        raise ValueError(f"row {number} is not an object")
    names = [field.name for field in fields(BaselineRow)]
    for key in [*value, *names]:
        if key not in names:
            raise ValueError(f"row {number} has the unknown key '{key}'")
        if key not in value and key != "two_sided":
            raise ValueError(f"row {number} lacks '{key}'")
    value = {"two_sided": False, **value}
    for key, right in _TYPES.items():
        if not right(value[key]):
            raise ValueError(f"row {number}: {key} cannot be {value[key]!r}")
    return BaselineRow(**value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count_or_null(value: Any) -> bool:
    return value is None or (_is_whole(value) and value >= 0)


_TYPES: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("suite", "entry", "profile", "split", "metric", "quality_identity"), _is_text),
    "seed": _is_whole,
    "kind": lambda value: value in KINDS,
    "value": _is_number,
    "tolerance": lambda value: _is_number(value) and value >= 0,
    "protocol": lambda value: value is None or (isinstance(value, dict) and set(value) == set(PROTOCOL_KEYS)),
    **dict.fromkeys(("num_targets", "num_units"), _is_count_or_null),
    "machine": lambda value: value is None or isinstance(value, str),
    "two_sided": lambda value: isinstance(value, bool),
}


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number a gate can hold")
