"""Results of a search: points ranked by the mean over their seeds, and the conclusions that allows."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.core.errors import writing
from harness.core.hashing import content_hash
from harness.core.metrics import metric_named, std_error_of, value_of
from harness.report import primary_protocol
from harness.results.record import RunRecord
from harness.runs.search.grid import SPLIT, Axis, Request, Trial, axes, in_words, trials_folder
from harness.system.files import refuse_links, write_atomic

Cells = dict[str, str | int | float | None]


@dataclass(frozen=True, slots=True)
class TrialResult:
    """One trial. Without a `score`, `status` and `error` say why."""

    seed: int
    score: float | None
    std_error: float | None
    tokens: int | None
    seconds: float | None
    status: str
    error: str | None
    run_id: str

    def to_json(self, metric: str) -> Cells:
        """The row of a table, with the score under the name of its metric."""
        return {metric if key == "score" else key: value for key, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the grid: values by axis name, and one trial per seed in the order of the seeds."""

    values: Mapping[str, str]
    trials: tuple[TrialResult, ...]
    metric: str

    @property
    def scores(self) -> list[float]:
        return [trial.score for trial in self.trials if trial.score is not None]

    @property
    def is_complete(self) -> bool:
        return len(self.scores) == len(self.trials)

    @property
    def mean(self) -> float | None:
        """Over the seeds that have a score; None without any."""
        return statistics.fmean(self.scores) if self.scores else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation (n - 1) over the seeds; None for fewer than two."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    def without_score(self) -> list[str]:
        """One line for every seed without a score: why, and which run."""
        return [
            f"seed {trial.seed} {trial.status}{f': {trial.error}' if trial.error else ''} ({trial.run_id})"
            for trial in self.trials
            if trial.score is None
        ]

    def to_json(self) -> Cells:
        """The row of a table: `tokens` and `seconds` are means, `std_error` is that of a single score."""
        num, scored = len(self.trials), len(self.scores)
        status = "finished" if self.is_complete else "incomplete"
        return {
            **self.values,
            "seeds": str(num) if scored == num else f"{scored} of {num}",
            self.metric: self.mean,
            "std_dev": self.deviation,
            "std_error": self.trials[0].std_error if num == 1 else None,
            "tokens": _mean([trial.tokens for trial in self.trials]),
            "seconds": _mean([trial.seconds for trial in self.trials]),
            "status": self.trials[0].status if num == 1 else status,
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """Points, best first and incomplete ones last, and conclusions in sentences."""

    request: Request
    suite: str
    metric: str
    seeds: tuple[int, ...]
    points: tuple[Point, ...]
    conclusions: tuple[str, ...]

    def render(self) -> str:
        """The table as Markdown, with the request above and the conclusions below."""
        lines = [f"# {self._asked()}", "", _grid([point.to_json() for point in self.points]), ""]
        if len(self.seeds) > 1:
            trials = [{k: v for k, v in row.items() if k not in ("run_id", "error")} for row in self._trials()]
            lines += ["Every trial:", "", _grid(trials), ""]
        return "\n".join([*lines, *(f"- {sentence}" for sentence in self.conclusions)]) + "\n"

    def write(self, results: Path) -> Path:
        """Write the table as Markdown and JSON next to the trials; returns the path of the Markdown.

        Raises StoreError if the folder cannot be written.
        """
        request, folder = self.request, trials_folder(results)
        # Named by all its runs, and so by seeds, device, data and overrides: no search overwrites another.
        runs = sorted(trial.run_id for point in self.points for trial in point.trials)
        what = [self.suite, request.entry, request.profile, *request.over, *runs]
        # Cut, since the two names together may be longer than a file's name.
        stem = f"{request.suite.stem[:60]}-{request.entry[:60]}-{content_hash(what)[:10]}"
        body = {
            "suite": self.suite, "entry": request.entry, "profile": request.profile, "set": list(request.overrides),
            "over": list(request.over), "tokens": request.tokens, "seeds": list(self.seeds), "device": self._device(),
            "conclusions": list(self.conclusions), "points": [point.to_json() for point in self.points],
            "trials": self._trials(),
        }  # fmt: skip
        with writing(folder):
            refuse_links(folder, results)
            write_atomic(folder / f"{stem}.json", json.dumps(body, indent=1) + "\n")
            write_atomic(folder / f"{stem}.md", self.render())
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

    def _trials(self) -> list[Cells]:
        return [{**point.values, **trial.to_json(self.metric)} for point in self.points for trial in point.trials]


def gather(request: Request, searched: Sequence[Trial], records: Sequence[RunRecord]) -> Outcome:
    """Rank the trials of a request by their records.

    Args:
        request: what was searched.
        searched: its trials.
        records: of those that were run, in any order.

    Returns:
        The ranked points and the conclusions.
    """
    metric = searched[0].spec.label.metrics[0]
    by_run = {record.run_id: record for record in records}
    results: dict[str, list[TrialResult]] = {}
    values: dict[str, Mapping[str, str]] = {}
    for trial in searched:
        name = in_words(trial.values)
        results.setdefault(name, []).append(_result(trial, by_run.get(trial.spec.run_id), metric))
        values[name] = trial.values
    points = [Point(values[name], tuple(results[name]), metric) for name in results]
    sign = -1 if metric_named(metric).higher_is_better else 1
    ordered = sorted(points, key=lambda point: (not point.is_complete, point.mean is None, sign * (point.mean or 0.0)))
    return Outcome(
        request=request,
        suite=searched[0].spec.label.suite,
        metric=metric,
        seeds=tuple(dict.fromkeys(trial.spec.seed for trial in searched)),
        points=tuple(ordered),
        conclusions=tuple(_conclusions(ordered, axes(request.over, request.entry))),
    )


def _result(trial: Trial, record: RunRecord | None, metric: str) -> TrialResult:
    if record is None:
        return TrialResult(trial.spec.seed, None, None, None, None, "not run", None, trial.spec.run_id)
    place = (SPLIT, primary_protocol(record))
    score = next((each for each in record.scores if (each.split, each.protocol.name) == place), None)
    finished = record.status == "finished"
    value = value_of(score, metric) if score and finished else None
    return TrialResult(
        seed=trial.spec.seed,
        score=value,
        std_error=std_error_of(score, metric) if score and value is not None else None,
        tokens=(record.training or {}).get("tokens"),
        seconds=record.seconds,
        status=record.status,
        error=f"no finite {metric} of {SPLIT}" if finished and value is None else record.error,
        run_id=trial.spec.run_id,
    )


def _conclusions(points: Sequence[Point], grid: Sequence[Axis]) -> list[str]:
    """The best point, its lead, whether it is at the edge of the grid, and which points are incomplete."""
    complete = [point for point in points if point.is_complete]
    unjudged = [
        f"{in_words(point.values)} is not judged: {'; '.join(point.without_score())}"
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
    lines = [
        f"best on {SPLIT}: {in_words(best.values)}" + (f", the mean of {num_seeds} seeds" if num_seeds > 1 else "")
    ]
    if len(complete) > 1:
        lines.append(_next(best, complete[1]))
    lines += [
        f"{axis.name} {best.values[axis.name]} is at the edge of the values tried: try further ones"
        for axis in grid
        if len(axis.values) > 1 and _at_edge(best.values[axis.name], axis.values)
    ]
    if num_seeds == 1:
        lines.append(f"one seed ({best.trials[0].seed}): differences between seeds are not known")
    return [*lines, *unjudged]


def _next(best: Point, after: Point) -> str:
    """The lead of the best point over the second, with its standard error, paired by seed if there are several."""
    gaps = [second - first for first, second in zip(best.scores, after.scores, strict=True)]
    behind = f"the next, {in_words(after.values)}, is {abs(statistics.fmean(gaps)):.4f} behind"
    if len(gaps) > 1:
        # Paired by seed: what a seed does to both points cancels.
        error = statistics.stdev(gaps) / len(gaps) ** 0.5
        return f"{behind}; the standard error of that difference, seed by seed, is {error:.4f}"
    error_of_one = best.trials[0].std_error
    return f"{behind}; the standard error of one score is " + (
        "not known" if error_of_one is None else f"{error_of_one:.4f}"
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean of the known values, a whole number if all are that number."""
    known = [value for value in values if value is not None]
    mean = statistics.fmean(known) if known else None
    return int(mean) if mean is not None and known == [int(mean)] * len(known) else mean


def _at_edge(value: str, values: Sequence[str]) -> bool:
    """Whether a value is the least or greatest number tried; False if any value is not a number."""
    try:
        numbers = [float(each) for each in values]
    except ValueError:
        return False
    return float(value) in (min(numbers), max(numbers))


def _grid(rows: Sequence[Cells]) -> str:
    from tabulate import tabulate

    # A seed is a name and gets no thousands separator.
    cells = [{key: str(value) if key == "seed" else _cell(value) for key, value in row.items()} for row in rows]
    text: str = tabulate(cells, headers="keys", tablefmt="github", disable_numparse=True)
    return text


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return "—"
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
