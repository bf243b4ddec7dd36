"""A run's page: everything of its record in plain words."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

from harness.core.metrics import METRICS, metric_named, std_error_of, value_of
from harness.report import intervals
from harness.report.columns import NOT_APPLICABLE, integer_text, three_digits
from harness.report.kernels import HEADINGS, kernel_cells, machine_text
from harness.report.rows import recipe_id

if TYPE_CHECKING:
    from harness.core.scores import Score
    from harness.core.specs import Label, Suite
    from harness.results.record import RunRecord

FULL = "full"
# Their rows are shown as tables or charts.
_LONG = 12


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: its heading, the headings of columns, the texts of cells, and how many leading columns hold words."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_words: int = 1
    note: str = ""


@dataclass(frozen=True, slots=True)
class RunPage:
    """What a run's page shows.

    Attributes:
        record, labels: the run.
        command: repeats it; None if no command does.
        command_note: what to know before repeating it.
        grids: tables, in order.
        facts: heading -> name and text of every other value of the record.
    """

    record: RunRecord
    labels: Sequence[Label]
    command: str | None
    command_note: str
    grids: Sequence[Grid]
    facts: Mapping[str, Sequence[tuple[str, str]]]


def run_page(record: RunRecord, labels: Sequence[Label], suites: Sequence[Suite]) -> RunPage:
    """Gather what the page of one run shows.

    Args:
        record: of the run.
        labels: its places in tables.
        suites: the installed ones, which a command can name.
    """
    command, note = repeat_command(record, labels[0], suites)
    grids = [
        _scores(record, labels),
        _audits(record),
        _curve(record),
        _phases(record),
        _attempts(record),
        _kernels(record),
    ]
    spec = asdict(record.spec)
    for key in ("label", "dataset_identity"):
        spec.pop(key, None)
    costs = record.costs
    blocks: dict[str, object] = {
        "How it was trained and scored": spec,
        "Model": record.model,
        "Training": record.training or {},
        "Data": record.data,
        "Machine": record.machine,
        "Code": record.code,
        "Costs": {} if costs is None else {"summary": costs.summary, "why unknown": costs.unknown_summary},
        "Sensors": {} if costs is None else {name: each.to_json() for name, each in costs.sensors.items()},
        "Places in tables": {f"{each.suite}/{each.profile}/{each.entry}": each.title for each in labels},
    }
    facts = {title: flat(block) for title, block in blocks.items() if block}
    return RunPage(record, labels, command, note, [grid for grid in grids if grid.rows], facts)


def repeat_command(record: RunRecord, label: Label, suites: Sequence[Suite]) -> tuple[str | None, str]:
    """The command that repeats a run, and what to know before it is used.

    Args:
        record: of the run.
        label: its place in a suite.
        suites: the installed ones.
    """
    spec = record.spec
    installed = next((each for each in suites if (each.name, each.profile) == (label.suite, label.profile)), None)
    words = ["harness", "run", label.suite if installed else f"{label.suite}.yaml"]
    words += [] if label.profile == FULL else ["--profile", label.profile]
    words += ["--only", label.entry, "--seed", str(spec.seed), "--device", spec.device, "--results", "repeat"]
    notes = _departures(record, label, installed)
    if spec.plan is not None:
        notes.append("the recipe was fitted into a time budget: add --time-budget and the plans of this folder")
    if spec.checkpoint is not None:
        notes.append("the suite names a checkpoint, which must be there")
    return shlex.join(words), "; ".join(notes)


def _departures(record: RunRecord, label: Label, suite: Suite | None) -> list[str]:
    """What the command would do otherwise than the run did, as the suite is now."""
    if suite is None:
        return ["the suite is not one of those installed: name its file"]
    entry = next((each for each in suite.entries if each.name == label.entry), None)
    if entry is None:
        return [f"the suite has changed since: it has no entry {label.entry} now"]
    spec, notes = record.spec, []
    if spec.plan is None and recipe_id(spec.model, spec.recipe) != recipe_id(entry.model, entry.recipe):
        notes.append("the suite has changed since: the command trains its present model and recipe, not those below")
    notes += [
        f"the run had {name} {was}, the suite has {now} now"
        for name, was, now in (("dtype", spec.dtype, entry.dtype), ("kernel", spec.kernel, entry.kernel))
        if was != now
    ]
    return notes


def flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Every value of a block with its place as `recipe, clip`; lists of numbers stay one text."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        if not value:
            return [(name, "none")] if name else []
        return [
            pair
            for key, each in value.items()
            for pair in flat(each, f"{name}, {_words(key)}" if name else _words(key))
        ]
    if isinstance(value, list | tuple) and any(isinstance(each, Mapping | list | tuple) for each in value):
        return [pair for place, each in enumerate(value, start=1) for pair in flat(each, f"{name} {place}")]
    return [(name, _text(value))]


def _words(key: object) -> str:
    return str(key).replace("_", " ")


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,}" if math.isfinite(value) and abs(value) >= 1 else f"{value:g}"
    if isinstance(value, list | tuple):
        shown = ", ".join(_text(each) for each in value[:_LONG])
        return f"{shown} and {len(value) - _LONG:,} more" if len(value) > _LONG else shown or "none"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _scores(record: RunRecord, labels: Sequence[Label]) -> Grid:
    names = dict.fromkeys(name for label in labels for name in label.metrics)
    rows = [_score(score, name) for score in record.scores for name in (*names, *_others(score, names))]
    columns = (
        "Split",
        "Protocol",
        "Metric",
        "Divided by",
        "Value",
        "Std. error",
        "95 % over the text",
        "Targets",
        "Seconds",
    )
    return Grid("Scores", columns, rows, 4)


def _others(score: Score, names: Mapping[str, None]) -> list[str]:
    return [name for name in score.metrics if name in METRICS and name not in names]


def _score(score: Score, name: str) -> list[str]:
    metric = metric_named(name)
    value, error = value_of(score, name), std_error_of(score, name)
    blocks = intervals.block_sums(score, name)
    low, high = intervals.of_text(name, blocks) if blocks is not None else (None, None)
    digits = metric.decimals
    return [
        score.split,
        score.protocol.name,
        f"{metric.title_for(score.split)}, {metric.unit}",
        score.protocol.denominator,
        NOT_APPLICABLE if value is None else f"{value:.{digits}f}",
        NOT_APPLICABLE if error is None else f"± {error:.{digits + 1}f}",
        NOT_APPLICABLE if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}",
        integer_text(score.tally.num_targets),
        three_digits(_finite(score.seconds)),
    ]


def _audits(record: RunRecord) -> Grid:
    rows = [
        [score.split, check.name, "passed" if check.passed else "failed", check.catches, check.unit,
         f"{check.figure:.3g}", f"{check.bound:.3g}"]
        for score in record.scores
        if score.audit is not None
        for check in score.audit.checks
    ]  # fmt: skip
    columns = ("Split", "Check", "Verdict", "Catches", "Unit", "Figure", "Bound")
    return Grid(
        "Audit", columns, rows, 5, "Checks that the score is the length of a code from which the text comes back."
    )


def _curve(record: RunRecord) -> Grid:
    keys = list(dict.fromkeys(key for row in record.curve for key in row))
    rows = [[_cell(row.get(key)) for key in keys] for row in record.curve]
    return Grid("Validations", [_HEADINGS.get(key, _words(key).capitalize()) for key in keys], rows, 0)


_HEADINGS = {
    "step": "Updates",
    "lr": "Learning rate",
    "train_nll_nats": "Training, nats/target",
    "valid_nll_nats": "Validation, nats/target",
    "is_best": "Best so far",
    "train_seconds": "Training, s",
    "validation_seconds": "Validation, s",
    "averaged": "Averaged weights",
}


def _cell(value: Any) -> str:
    if value is None:
        return NOT_APPLICABLE
    return (
        three_digits(value)
        if isinstance(value, float) and math.isfinite(value) and abs(value) > 1000
        else (f"{value:.4g}" if isinstance(value, float) else _text(value))
    )


_QUANTITIES = {"cpu_percent": "CPU %", "gpu_percent": "GPU %", "sm_percent": "SM %", "gpu_power_w": "GPU W"}


def _phases(record: RunRecord) -> Grid:
    phases = {} if record.costs is None else record.costs.phases
    known = [key for key in _QUANTITIES if any(key in phase.quantities for phase in phases.values())]
    rows = []
    for name, phase in phases.items():
        means = [phase.quantities[key].mean if key in phase.quantities else None for key in known]
        memory = phase.quantities.get("peak_rss_bytes")
        joules = phase.joules("gpu" if record.spec.device.startswith("cuda") else "package")
        peak = None if memory is None or memory.peak is None else memory.peak / 1e9
        rows.append([name, *map(_at_least_ms, (phase.seconds, phase.cpu_seconds, *means, peak, joules))])
    columns = ("Phase", "Seconds", "CPU s", *(f"Mean {_QUANTITIES[key]}" for key in known), "Peak RSS, GB", "Joules")
    return Grid("What each phase cost", columns, rows)


def _at_least_ms(value: float | None) -> str:
    return "< 0.001" if value is not None and 0 < value < 0.001 else three_digits(value)


def _attempts(record: RunRecord) -> Grid:
    rows = [
        [str(number), each.started_at.replace("T", " ").replace("+00:00", " UTC"), each.status,
         machine_text(each.machine or NOT_APPLICABLE),
         NOT_APPLICABLE if each.seconds is None else f"{each.seconds:,.1f}"]
        for number, each in enumerate(record.attempts, start=1)
    ]  # fmt: skip
    return Grid("Attempts", ("Attempt", "Started", "Status", "Machine", "Seconds"), rows, 4)


def _kernels(record: RunRecord) -> Grid:
    return Grid(
        "Kernels at this model's shapes", HEADINGS, [kernel_cells(row) for row in record.timings if "op" in row], 4
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
