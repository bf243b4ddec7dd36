"""A small grid over keys of a suite: every trial is an ordinary run, and the winner is chosen on valid alone.

The test split is not scored in a trial, so that nothing can be chosen by it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.errors import SuiteError
from harness.core.specs import RunSpec
from harness.suite import check_model, load, resolve

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
    """Every point of the grid under every seed, checked before anything is run: the seeds of a point stand together.

    Raises SuiteError for a point that cannot be, two that are the same, and a grid of more than MAX_TRIALS.
    """
    grid = axes(request.over, request.entry)
    _check_size(math.prod(len(axis.values) for axis in grid))
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
    _check_size(len(found))
    _check_distinct(found)
    return found


def check_vocabulary(request: Request, found: Sequence[Trial], vocab_size: int) -> None:
    """For text whose vocabulary is known only once prepared. Raises SuiteError for the first point that cannot be."""
    for trial in found:
        check_model(
            trial.spec.model, vocab_size, f"{request.suite}: entries.{request.entry}.model at {told(trial.values)}"
        )


def told(values: Mapping[str, str]) -> str:
    """A point in words: `recipe.lr 1e-3, recipe.clip 0.25`."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _check_size(num_trials: int) -> None:
    if num_trials > MAX_TRIALS:
        raise SuiteError(f"the grid has {num_trials} trials, more than {MAX_TRIALS}; name fewer values")


def _check_distinct(found: Sequence[Trial]) -> None:
    """Two ways to write one value, and a value that changes no number here, make points that are one run."""
    first: dict[str, Trial] = {}
    for trial in found:
        same = first.setdefault(trial.spec.run_id, trial)
        if same is not trial:
            names = [name for name, value in trial.values.items() if same.values[name] != value]
            one, other = (told({name: each.values[name] for name in names}) for each in (same, trial))
            raise SuiteError(f"--over: {one} and {other} are one and the same run; name one of them")


def _as_trial(spec: RunSpec, values: dict[str, str]) -> RunSpec:
    """The same run under a label of its own: a trial stands in no row of the paper's, and kernels are not timed."""
    title = f"{spec.label.title}, {told(values)}"
    label = replace(spec.label, profile=PROFILE, title=title, published=None)
    return replace(spec, label=label, kernels=())


def trials_folder(results: Path) -> Path:
    """A results tree of its own inside the results, so that trials stand in no leaderboard."""
    return results / "search"
