"""Results of a search: points ranked by the mean over their seeds, and the conclusions that allows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import writing
from harness.core.messages import count
from harness.core.metrics import metric_named, std_error_of
from harness.results.record import RunRecord
from harness.runs.search.space import SPLIT, Space, in_words
from harness.runs.search.study import KnownTrial, score_of
from harness.system.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Outcome:
    """A search as tables: `runs` has a row per run, `points` one per trial, best first, those without a score last."""

    space: Space
    runs: pd.DataFrame
    points: pd.DataFrame
    conclusions: tuple[str, ...]

    def render(self) -> str:
        """The table as Markdown, with the request above and the conclusions below."""
        lines = [f"# {self._asked()}", "", _markdown(self.points), ""]
        if len(self.space.specs) > 1:
            lines += ["Every run:", "", _markdown(self.runs.drop(columns=["run_id", "error"])), ""]
        return "\n".join([*lines, *(f"- {sentence}" for sentence in self.conclusions)]) + "\n"

    def write(self, study: Path) -> Path:
        """Write the table as Markdown and JSON next to the study; returns the path of the Markdown.

        Raises StoreError if the folder cannot be written.
        """
        request, label = self.space.request, self.space.specs[0].label
        body = {
            "suite": label.suite, "entry": self.space.entry, "profile": request.profile,
            "set": list(request.overrides), "over": list(request.over), "sampler": request.sampler,
            "pruner": request.pruner, "tokens": request.tokens, "seeds": self._seeds(), "device": self._device(),
            "conclusions": list(self.conclusions), "points": _rows(self.points), "trials": _rows(self.runs),
        }  # fmt: skip
        with writing(study):
            write_atomic(study.with_suffix(".json"), json.dumps(body, indent=1) + "\n")
            write_atomic(study.with_suffix(".md"), self.render())
        return study.with_suffix(".md")

    def _asked(self) -> str:
        space, request = self.space, self.space.request
        profile = "" if request.profile is None else f", profile {request.profile}"
        seeds = f"seed{'s' * (len(space.specs) > 1)} {', '.join(map(str, self._seeds()))}"
        changed = "".join(f" --set {text}" for text in request.overrides)
        over = "".join(f" --over {text}" for text in request.over)
        length = "" if request.tokens is None else f", {request.tokens:,} tokens each"
        pruned = "" if request.pruner == "none" else f" and the {request.pruner} pruner"
        return (
            (
                f"{space.specs[0].label.suite}, entry {space.entry}{profile}, {seeds}, on {self._device()}, by the "
                f"{request.sampler} sampler{pruned}:{over}{changed}{length}"
            )
            .replace(":,", ",")
            .removesuffix(":")
        )

    def _seeds(self) -> list[int]:
        return [spec.seed for spec in self.space.specs]

    def _device(self) -> str:
        return self.space.request.device.split(":")[0]


def gather(space: Space, trials: Sequence[KnownTrial], records: Mapping[str, RunRecord]) -> Outcome:
    """Rank the trials of a study by their records.

    Args:
        space: what was searched.
        trials: of the study.
        records: by run id; a run without one was not run.

    Returns:
        The ranked points and the conclusions.
    """
    import pandas as pd

    metric, axes = space.metric, list(space.axes)
    rows = [
        {
            "trial": trial.number,
            **{name: trial.values.get(name) for name in axes},
            "seed": spec.seed,
            **_result(records.get(run_id), metric),
            "run_id": run_id,
        }
        for trial in trials
        for spec, run_id in zip(space.specs, trial.runs, strict=True)
    ]
    columns = ["trial", *axes, "seed", metric, "std_error", "tokens", "seconds", "status", "error", "run_id"]
    runs = pd.DataFrame(rows, columns=columns)
    points = pd.DataFrame([_point(runs_of, axes, metric) for _, runs_of in runs.groupby("trial", sort=False)])
    if len(points):
        points["_last"] = points["status"] != "finished"
        ascending = not metric_named(metric).higher_is_better
        points = points.sort_values(["_last", metric], ascending=[True, ascending], kind="stable").drop(columns="_last")
        place = {number: index for index, number in enumerate(points["trial"])}
        runs = runs.sort_values("trial", key=lambda numbers: numbers.map(place), kind="stable")
    return Outcome(space, runs, points, tuple(_conclusions(space, points, runs)))


def _result(record: RunRecord | None, metric: str) -> dict[str, object]:
    if record is None:
        return {"status": "not run"}
    value = score_of(record, metric)
    score = next((each for each in record.scores if each.split == SPLIT), None)
    lost = record.status == "finished" and value is None
    return {
        metric: value,
        "std_error": std_error_of(score, metric) if score and value is not None else None,
        "tokens": (record.training or {}).get("tokens"),
        "seconds": record.seconds,
        "status": record.status,
        "error": f"no finite {metric} of {SPLIT}" if lost else record.error,
    }


def _point(runs: pd.DataFrame, axes: Sequence[str], metric: str) -> dict[str, object]:
    """The row of a trial: tokens and seconds are means, `std_error` is that of a single score."""
    scores, first, num = runs[metric].dropna(), runs.iloc[0], len(runs)
    return {
        **first[["trial", *axes]],
        "seeds": str(num) if len(scores) == num else f"{len(scores)} of {num}",
        metric: scores.mean(),
        "std_dev": scores.std(),
        "std_error": first["std_error"] if num == 1 else None,
        "tokens": runs["tokens"].mean(),
        "seconds": runs["seconds"].mean(),
        "status": "finished" if len(scores) == num else _lost(first["status"]) if num == 1 else "incomplete",
    }


def _lost(status: str) -> str:
    return "no score" if status == "finished" else status


def _conclusions(space: Space, points: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    """The best point, its lead, whether it is at the edge of its values, and which points are not judged."""
    complete = [point for _, point in points.iterrows() if point["status"] == "finished"]
    others = [point for _, point in points.iterrows() if point["status"] not in ("finished", "pruned")]
    unjudged = [f"{_place(space, point)} is not judged: {_reasons(space, runs, point)}" for point in others]
    num_pruned = len(points) - len(complete) - len(others)
    if num_pruned:
        unjudged.insert(0, f"{count(num_pruned, 'trial')} stopped early by the pruner")
    if not complete:
        some = len(points) > 0 and points[space.metric].notna().any()
        return [
            f"no {'point has a score for each seed' if some else 'trial finished'}: nothing is concluded",
            *unjudged,
        ]
    best, num_seeds = complete[0], len(space.specs)
    several = f", the mean of {num_seeds} seeds" if num_seeds > 1 else ""
    lines = [f"best on {SPLIT}: {_place(space, best)}{several}"]
    if len(complete) > 1:
        lines.append(_next(space, runs, best, complete[1]))
    lines += [
        f"{name} {best[name]} is at the edge of the values tried: try further ones"
        for name, parameter in space.axes.items()
        if len(parameter.texts) > 1 and _at_edge(best[name], parameter.texts)
    ]
    if num_seeds == 1:
        lines.append(f"one seed ({space.specs[0].seed}): differences between seeds are not known")
    return [*lines, *unjudged]


def _place(space: Space, point: pd.Series[Any]) -> str:
    return in_words({name: point[name] for name in space.axes if point[name] is not None})


def _reasons(space: Space, runs: pd.DataFrame, point: pd.Series[Any]) -> str:
    """Why each seed of a point without a score has none, and which run it is."""
    of_point = runs[runs["trial"] == point["trial"]]
    lost = of_point[of_point[space.metric].isna()]
    return "; ".join(
        f"seed {run['seed']} {run['status']}{_because(run['error'])} ({run['run_id']})" for _, run in lost.iterrows()
    )


def _because(error: str | None) -> str:
    return f": {error}" if error else ""


def _next(space: Space, runs: pd.DataFrame, best: pd.Series[Any], after: pd.Series[Any]) -> str:
    """The lead of the best point over the second, with its standard error, paired by seed if there are several."""
    one, other = (runs[runs["trial"] == point["trial"]][space.metric].to_numpy() for point in (best, after))
    gaps = other - one
    behind = f"the next, {_place(space, after)}, is {abs(gaps.mean()):.4f} behind"
    if len(gaps) > 1:
        # Paired by seed: what a seed does to both points cancels.
        error = gaps.std(ddof=1) / len(gaps) ** 0.5
        return f"{behind}; the standard error of that difference, seed by seed, is {error:.4f}"
    error = best["std_error"]
    known = "not known" if error is None or error != error else f"{error:.4f}"
    return f"{behind}; the standard error of one score is {known}"


def _at_edge(value: str | None, values: Sequence[str]) -> bool:
    """Whether a value is the least or greatest number tried; False if any value is not a number."""
    try:
        numbers = [float(each) for each in values]
    except ValueError:
        return False
    return value is not None and float(value) in (min(numbers), max(numbers))


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows for JSON: None for unknown values, and whole numbers without a fraction."""
    rows: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=15))
    return [{key: int(v) if isinstance(v, float) and v == int(v) else v for key, v in row.items()} for row in rows]


def _markdown(frame: pd.DataFrame) -> str:
    from tabulate import tabulate

    # A trial and a seed are names and get no thousands separator.
    cells = [
        {key: str(value) if key in ("trial", "seed") else _cell(value) for key, value in row.items()}
        for row in _rows(frame)
    ]
    text: str = tabulate(cells, headers="keys", tablefmt="github", disable_numparse=True)
    return text


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return "—"
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
