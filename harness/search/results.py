"""What a search found: each point of the grid by the mean over its seeds, and what may be concluded from it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import StoreError
from harness.core.hashing import content_hash
from harness.core.metrics import metric_named, std_error_of, value_of
from harness.report import primary_protocol
from harness.results.record import RunRecord
from harness.search.search import SPLIT, Axis, Request, Trial, axes, told, trials_folder
from harness.system.files import write_atomic


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the grid: values by the axis's name, and a row of `trials` per seed, in the order of the seeds.

    mean and deviation (n - 1) are of the seeds that have a score, None for fewer than one and two of them.
    """

    values: Mapping[str, str]
    trials: tuple[Mapping[str, Any], ...]
    metric: str

    @property
    def scores(self) -> list[float]:
        return [row[self.metric] for row in self.trials if row[self.metric] is not None]

    @property
    def is_complete(self) -> bool:
        return len(self.scores) == len(self.trials)

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.scores) if self.scores else None

    @property
    def deviation(self) -> float | None:
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    def without_score(self) -> list[str]:
        """Every seed that has no score, with the reason and the run."""
        rows = [row for row in self.trials if row[self.metric] is None]
        reasons = [f": {row['error']}" if row["error"] else "" for row in rows]
        return [
            f"seed {row['seed']} {row['status']}{reason} ({row['run_id']})"
            for row, reason in zip(rows, reasons, strict=True)
        ]

    def to_json(self) -> dict[str, Any]:
        """tokens and seconds are means over the seeds; std_error is that of one score, so null for several."""
        num, scored = len(self.trials), len(self.scores)
        status = "finished" if self.is_complete else "incomplete"
        return {
            **self.values,
            "seeds": str(num) if scored == num else f"{scored} of {num}",
            self.metric: self.mean,
            "std_dev": self.deviation,
            "std_error": self.trials[0]["std_error"] if num == 1 else None,
            "tokens": self._mean("tokens"),
            "seconds": self._mean("seconds"),
            "status": self.trials[0]["status"] if num == 1 else status,
        }

    def _mean(self, key: str) -> float | None:
        known = [row[key] for row in self.trials if row[key] is not None]
        mean = statistics.fmean(known) if known else None
        return int(mean) if mean is not None and known == [int(mean)] * len(known) else mean


@dataclass(frozen=True, slots=True)
class Outcome:
    """Points best first, those that lack a seed's score last; conclusions in sentences."""

    request: Request
    suite: str
    metric: str
    seeds: tuple[int, ...]
    points: tuple[Point, ...]
    conclusions: tuple[str, ...]

    def render(self) -> str:
        """The table for people, with what was asked above it and what follows below."""
        lines = [f"# {self._asked()}", "", _grid([point.to_json() for point in self.points]), ""]
        if len(self.seeds) > 1:
            trials = [{k: v for k, v in row.items() if k not in ("run_id", "error")} for row in self._trials()]
            lines += ["Every trial:", "", _grid(trials), ""]
        return "\n".join([*lines, *(f"- {sentence}" for sentence in self.conclusions)]) + "\n"

    def write(self, results: Path) -> Path:
        """Keep the table as Markdown and JSON beside the trials. Returns the Markdown's path. Raises StoreError.

        The name holds a hash over every run of the grid, so over seeds, kind of device, data and all that was set.
        """
        request, folder = self.request, trials_folder(results)
        runs = sorted(row["run_id"] for point in self.points for row in point.trials)
        what = [self.suite, request.entry, request.profile, *request.over, *runs]
        stem = f"{request.suite.stem}-{request.entry}-{content_hash(what)[:10]}"
        body = {
            "suite": self.suite, "entry": request.entry, "profile": request.profile, "set": list(request.overrides),
            "over": list(request.over), "tokens": request.tokens, "seeds": list(self.seeds), "device": self._device(),
            "conclusions": list(self.conclusions), "points": [point.to_json() for point in self.points],
            "trials": self._trials(),
        }  # fmt: skip
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / f"{stem}.json", json.dumps(body, indent=1) + "\n")
            write_atomic(folder / f"{stem}.md", self.render())
        except OSError as error:
            raise StoreError(f"{folder}: cannot be written: {error.strerror or error}") from error
        return folder / f"{stem}.md"

    def _asked(self) -> str:
        request = self.request
        profile = "" if request.profile is None else f", profile {request.profile}"
        seeds = f"seed{'s' * (len(self.seeds) > 1)} {', '.join(map(str, self.seeds))}"
        changed = "".join(f" --set {text}" for text in request.overrides)
        over = "".join(f" --over {text}" for text in request.over)
        length = "" if request.tokens is None else f", {request.tokens:,} tokens each"
        return f"{self.suite}, entry {request.entry}{profile}, {seeds}, on {self._device()}:{over}{changed}{length}"

    def _device(self) -> str:
        return self.request.device.split(":")[0]

    def _trials(self) -> list[dict[str, Any]]:
        return [{**point.values, **row} for point in self.points for row in point.trials]


def gather(request: Request, found: Sequence[Trial], records: Sequence[RunRecord]) -> Outcome:
    """The trials of a request with the records that were made of them, if any."""
    metric = found[0].spec.label.metrics[0]
    by_run = {record.run_id: record for record in records}
    rows: dict[str, list[Mapping[str, Any]]] = {}
    values: dict[str, Mapping[str, str]] = {}
    for trial in found:
        rows.setdefault(told(trial.values), []).append(_row(trial, by_run.get(trial.spec.run_id), metric))
        values[told(trial.values)] = trial.values
    points = [Point(values[name], tuple(rows[name]), metric) for name in rows]
    sign = -1 if metric_named(metric).higher_is_better else 1
    ordered = sorted(points, key=lambda point: (not point.is_complete, point.mean is None, sign * (point.mean or 0.0)))
    return Outcome(
        request=request,
        suite=found[0].spec.label.suite,
        metric=metric,
        seeds=tuple(dict.fromkeys(trial.spec.seed for trial in found)),
        points=tuple(ordered),
        conclusions=tuple(_conclusions(ordered, axes(request.over, request.entry))),
    )


def _row(trial: Trial, record: RunRecord | None, metric: str) -> dict[str, Any]:
    """One trial. One without a score says why under `status` and `error`."""
    score, error = None, None
    if record is not None:
        wanted = (SPLIT, primary_protocol(record))
        score = next((each for each in record.scores if (each.split, each.protocol.name) == wanted), None)
        error = record.error
    finished = record is not None and record.status == "finished"
    value = value_of(score, metric) if score and finished else None
    if finished and value is None:
        error = f"no finite {metric} of {SPLIT}"
    return {
        "seed": trial.spec.seed,
        metric: value,
        "std_error": std_error_of(score, metric) if score and value is not None else None,
        "tokens": (record.training or {}).get("tokens") if record else None,
        "seconds": record.seconds if record else None,
        "status": record.status if record else "not run",
        "error": error,
        "run_id": trial.spec.run_id,
    }


def _conclusions(points: Sequence[Point], grid: Sequence[Axis]) -> list[str]:
    """The winner, how far the next is, whether it is at the grid's edge, and which points cannot be judged."""
    complete = [point for point in points if point.is_complete]
    unjudged = [
        f"{told(point.values)} is not judged: {'; '.join(point.without_score())}"
        for point in points
        if not point.is_complete
    ]
    if not complete:
        some = any(point.scores for point in points)
        return [
            f"no {'point has a score for each seed' if some else 'trial finished'}: nothing is concluded",
            *unjudged,
        ]
    best, num_seeds = complete[0], len(complete[0].trials)
    said = [f"best on {SPLIT}: {told(best.values)}" + (f", the mean of {num_seeds} seeds" if num_seeds > 1 else "")]
    if len(complete) > 1:
        said.append(_next(best, complete[1]))
    said += [
        f"{axis.name} {best.values[axis.name]} stands at the edge of what was tried: try further values"
        for axis in grid
        if len(axis.values) > 1 and _at_edge(best.values[axis.name], axis.values)
    ]
    if num_seeds == 1:
        said.append(f"one seed ({best.trials[0]['seed']}): differences between seeds are not known")
    return [*said, *unjudged]


def _next(best: Point, after: Point) -> str:
    """How far the second point is behind the first, and how sure that is: seed by seed where there are several."""
    gaps = [other - own for own, other in zip(best.scores, after.scores, strict=True)]
    behind = f"the next, {told(after.values)}, is {abs(statistics.fmean(gaps)):.4f} behind"
    if len(gaps) > 1:
        error = statistics.stdev(gaps) / len(gaps) ** 0.5
        return f"{behind}; the standard error of that difference, seed by seed, is {error:.4f}"
    error_of_one = best.trials[0]["std_error"]
    return f"{behind}; the standard error of one score is " + (
        "not known" if error_of_one is None else f"{error_of_one:.4f}"
    )


def _at_edge(value: str, values: Sequence[str]) -> bool:
    """Whether the winner is the least or greatest number tried; never for values that are no numbers."""
    try:
        numbers = [float(each) for each in values]
    except ValueError:
        return False
    return float(value) in (min(numbers), max(numbers))


def _grid(rows: Sequence[Mapping[str, Any]]) -> str:
    from tabulate import tabulate

    # A seed is a name, not a count.
    plain = [{key: str(value) if key == "seed" else _cell(value) for key, value in row.items()} for row in rows]
    text: str = tabulate(plain, headers="keys", tablefmt="github", disable_numparse=True)
    return text


def _cell(value: Any) -> str:
    if value is None:
        return "—"
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
