"""A small grid over keys of a suite: every trial is an ordinary run, and the winner is chosen on valid alone.

The test split is not scored in a trial, so that nothing can be chosen by it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.atomic import write_atomic
from harness.errors import StoreError, SuiteError
from harness.metrics import METRICS
from harness.suite import load, resolve
from harness.types import RunRecord, RunSpec, content_hash

PROFILE = "search"
MAX_TRIALS = 200
NOT_SEARCHED = ("suite", "dataset", "metrics", "evaluation", "seeds", "published", "profiles")
SPLIT = "valid"


@dataclass(frozen=True, slots=True)
class Axis:
    """One key of the suite and the values to try, as they were written."""

    key: str
    values: tuple[str, ...]

    @property
    def name(self) -> str:
        """The key without the entry it belongs to: `recipe.lr`."""
        return ".".join(self.key.split(".")[2:]) if self.key.startswith("entries.") else self.key


@dataclass(frozen=True, slots=True)
class Trial:
    """One point of the grid: values by the axis's name, and the run they make."""

    values: dict[str, str]
    spec: RunSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to search. over: `KEY=V1,V2,...`; tokens: how long each trial trains, the recipe's own length where None."""

    suite: Path
    entry: str
    over: Sequence[str]
    profile: str | None = None
    overrides: Sequence[str] = ()
    tokens: int | None = None
    seeds: Sequence[int] = ()
    device: str = "cpu"
    roots: Sequence[Path] = ()


def axes(over: Sequence[str], entry: str) -> list[Axis]:
    """The axes of a grid. `recipe.` and `model.` mean the entry's own. Raises SuiteError for what is no axis."""
    found = []
    for text in over:
        key, equals, values = text.partition("=")
        parts = tuple(split_values(values))
        key = key.strip()
        if not equals or not key or not all(parts):
            raise SuiteError(f"--over {text}: is not KEY=VALUE,VALUE, such as recipe.lr=1e-3,2e-3")
        if len(set(parts)) != len(parts):
            raise SuiteError(f"--over {key}: names a value twice")
        if key.split(".")[0] in NOT_SEARCHED:
            raise SuiteError(f"--over {key}: a search may not change what is scored or on what")
        if key.split(".")[0] != "entries":
            key = f"entries.{entry}.{key}"
        found.append(Axis(key, parts))
    if not found:
        raise SuiteError("nothing to search: give --over KEY=VALUE,VALUE at least once")
    if len({axis.key for axis in found}) != len(found):
        raise SuiteError("--over names a key twice; give all its values at once")
    return found


def split_values(text: str) -> list[str]:
    """Values between commas; those inside brackets or braces belong to one value."""
    found, depth, part = [], 0, ""
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            found.append(part.strip())
            part = ""
        else:
            part += letter
    return [*found, part.strip()]


def trials(request: Request) -> list[Trial]:
    """Every point of the grid under every seed, checked before anything is run.

    Raises SuiteError for a point that cannot be, and for a grid of more than MAX_TRIALS.
    """
    grid = axes(request.over, request.entry)
    base = [*request.overrides, f"evaluation.splits=[{SPLIT}]"]
    if request.tokens is not None:
        own = f"entries.{request.entry}.recipe"
        base += [f"{own}.tokens={request.tokens}", f"{own}.epochs=null", f"{own}.decay_at=[]"]
    found = []
    for point in itertools.product(*(axis.values for axis in grid)):
        values = {axis.name: value for axis, value in zip(grid, point, strict=True)}
        chosen = [f"{axis.key}={value}" for axis, value in zip(grid, point, strict=True)]
        suite = load(request.suite, profile=request.profile, overrides=[*base, *chosen])
        for spec in resolve(
            suite, seeds=request.seeds or None, only=(request.entry,), device=request.device, roots=request.roots
        ):
            if spec.recipe is None:
                raise SuiteError(
                    f"{request.suite}: entry {request.entry} trains nothing, so there is nothing to search"
                )
            found.append(Trial(values, _as_trial(spec, values)))
    if len(found) > MAX_TRIALS:
        raise SuiteError(f"the grid has {len(found)} trials, more than {MAX_TRIALS}; name fewer values")
    return found


def _as_trial(spec: RunSpec, values: dict[str, str]) -> RunSpec:
    """The same run under a label of its own: a trial stands in no row of the paper's, and kernels are not timed."""
    title = f"{spec.label.title}, " + ", ".join(f"{key} {value}" for key, value in values.items())
    label = replace(spec.label, profile=PROFILE, title=title, published=None)
    return replace(spec, label=label, kernels=())


def rows(found: Sequence[Trial], records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """One row per trial: values, seed, valid score with its standard error, seconds, run; best first.

    A trial without a score says why under `status` and `error` and comes last.
    """
    by_run = {record.run_id: record for record in records}
    table = []
    for trial in found:
        record = by_run.get(trial.spec.run_id)
        metric = trial.spec.label.metrics[0]
        score = next((each for each in record.scores if each["split"] == SPLIT), None) if record else None
        value = score["metrics"][metric] if score and record and record.status == "finished" else None
        table.append(
            {
                **trial.values,
                "seed": trial.spec.seed,
                metric: value,
                "std_error": score["std_errors"][metric] if score and value is not None else None,
                "tokens": (record.training or {}).get("tokens") if record else None,
                "seconds": record.seconds if record else None,
                "status": record.status if record else "not run",
                "error": record.error if record else None,
                "run_id": trial.spec.run_id,
            }
        )
    sign = -1 if METRICS[found[0].spec.label.metrics[0]].higher_is_better else 1
    metric = found[0].spec.label.metrics[0]
    return sorted(table, key=lambda row: (row[metric] is None, sign * (row[metric] or 0.0)))


def verdict(table: Sequence[dict[str, Any]], grid: Sequence[Axis], metric: str) -> list[str]:
    """What may be concluded, in sentences: the winner, how far the next is, and whether it is at the grid's edge."""
    best = table[0]
    if best[metric] is None:
        return ["no trial finished: nothing is concluded"]
    said = [f"best on {SPLIT}: " + ", ".join(f"{axis.name} {best[axis.name]}" for axis in grid)]
    rest = [row for row in table[1:] if row[metric] is not None]
    if rest:
        gap = abs(rest[0][metric] - best[metric])
        error = best["std_error"]
        sure = "is not known" if error is None else f"is {error:.4f}"
        said.append(f"the next is {gap:.4f} behind; the standard error of one score {sure}")
    said += [
        f"{axis.name} {best[axis.name]} stands at the edge of what was tried: try further values"
        for axis in grid
        if len(axis.values) > 1 and _at_edge(best[axis.name], axis.values)
    ]
    if len({row["seed"] for row in table}) == 1:
        said.append(f"one seed ({best['seed']}): differences between seeds are not known")
    return said


def _at_edge(value: str, values: Sequence[str]) -> bool:
    """Whether the winner is the least or greatest number tried; never for values that are no numbers."""
    try:
        numbers = [float(each) for each in values]
    except ValueError:
        return False
    return float(value) in (min(numbers), max(numbers))


def trials_folder(results: Path) -> Path:
    """A results tree of its own inside the results, so that trials stand in no leaderboard."""
    return results / "search"


def write(results: Path, request: Request, table: Sequence[dict[str, Any]], said: Sequence[str]) -> Path:
    """Keep the table as Markdown and JSON beside the trials. Returns the Markdown's path. Raises StoreError."""
    what = [request.suite.stem, request.entry, request.profile, *request.overrides, *request.over, request.tokens]
    stem = f"{request.suite.stem}-{request.entry}-{content_hash(what)[:10]}"
    folder = trials_folder(results)
    body = {
        "suite": request.suite.stem, "entry": request.entry, "profile": request.profile,
        "set": list(request.overrides), "over": list(request.over), "tokens": request.tokens,
        "conclusions": list(said), "trials": list(table),
    }  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / f"{stem}.json", json.dumps(body, indent=1) + "\n")
        write_atomic(folder / f"{stem}.md", render(request, table, said))
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return folder / f"{stem}.md"


def render(request: Request, table: Sequence[dict[str, Any]], said: Sequence[str]) -> str:
    """The table for people, with what was asked above it and what follows below."""
    from tabulate import tabulate

    shown = [{key: value for key, value in row.items() if key not in ("run_id", "error")} for row in table]
    asked = " ".join(f"--over {axis}" for axis in request.over)
    length = "" if request.tokens is None else f", {request.tokens:,} tokens each"
    lines = [f"# {request.suite.stem}, entry {request.entry}: {asked}{length}", ""]
    plain = [{key: _cell(value) for key, value in row.items()} for row in shown]
    lines += [tabulate(plain, headers="keys", tablefmt="github", disable_numparse=True), ""]
    lines += [f"- {sentence}" for sentence in said]
    lines += [f"- {row['run_id']}: {row['error']}" for row in table if row["error"]]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return "—"
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
