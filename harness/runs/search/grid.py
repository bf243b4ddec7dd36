"""A grid over keys of a suite: every trial is an ordinary run.

Trials score the validation split only, so that nothing can be chosen by the test split.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.errors import SuiteError
from harness.core.specs import RunSpec
from harness.suite import check_model, load, resolve, unused_setting

PROFILE = "search"
MAX_TRIALS = 200
NOT_SEARCHED = ("suite", "dataset", "metrics", "evaluation", "seeds", "published", "profiles")
SPLIT = "valid"


@dataclass(frozen=True, slots=True)
class Axis:
    """One key of the suite and the values to try, as written."""

    key: str
    values: tuple[str, ...]

    @property
    def name(self) -> str:
        """The key without its entry: `recipe.lr`."""
        return ".".join(self.key.split(".")[2:]) if self.key.startswith("entries.") else self.key


@dataclass(frozen=True, slots=True)
class Trial:
    """One point of the grid under one seed: values by axis name, and the run."""

    values: dict[str, str]
    spec: RunSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to search.

    Attributes:
        suite, entry, profile: the entry to vary.
        over: axes as `KEY=V1,V2,...`.
        overrides: `KEY=VALUE` for every trial.
        tokens: length of each trial; None for the recipe's own length.
        seeds: of every trial; empty for the suite's.
        device: where to run.
        roots: read-only folders of data.
    """

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
    """Parse the axes of a grid.

    Args:
        over: `KEY=V1,V2,...` each; a key without `entries.` belongs to the entry.
        entry: its name.

    Returns:
        One axis per text.

    Raises:
        SuiteError: a text is not an axis, names a value or key twice, or changes the scored text.
    """
    result = []
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
        result.append(Axis(key, parts))
    if not result:
        raise SuiteError("nothing to search: give --over KEY=VALUE,VALUE at least once")
    if len({axis.key for axis in result}) != len(result):
        raise SuiteError("--over names a key twice; give all its values at once")
    return result


def split_values(text: str) -> list[str]:
    """Split at commas outside of brackets and braces."""
    values, depth, part = [], 0, ""
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            values.append(part.strip())
            part = ""
        else:
            part += letter
    return [*values, part.strip()]


def trials(request: Request) -> list[Trial]:
    """Every point of the grid under every seed, the seeds of a point in sequence. Nothing is run.

    Raises SuiteError for an invalid point, two equal points, and more than MAX_TRIALS trials.
    """
    grid = axes(request.over, request.entry)
    _check_size(math.prod(len(axis.values) for axis in grid))
    # After the user's overrides, so that they cannot bring the test split back.
    base = [*request.overrides, f"evaluation.splits=[{SPLIT}]"]
    if request.tokens is not None:
        recipe = f"entries.{request.entry}.recipe"
        base += [f"{recipe}.tokens={request.tokens}", f"{recipe}.epochs=null", f"{recipe}.decay_at=[]"]
    result = []
    for point in itertools.product(*(axis.values for axis in grid)):
        values = {axis.name: value for axis, value in zip(grid, point, strict=True)}
        chosen = [f"{axis.key}={value}" for axis, value in zip(grid, point, strict=True)]
        # Loaded per point: a value may be wrong for the suite, and the error then names it.
        suite = load(request.suite, profile=request.profile, overrides=[*base, *chosen])
        for spec in resolve(
            suite, seeds=request.seeds or None, only=(request.entry,), device=request.device, roots=request.roots
        ):
            if spec.recipe is None:
                raise SuiteError(
                    f"{request.suite}: entry {request.entry} trains nothing, so there is nothing to search"
                )
            result.append(Trial(values, _as_trial(spec, values)))
    _check_size(len(result))
    _check_distinct(result)
    return result


def check_vocabulary(request: Request, searched: Sequence[Trial], vocab_size: int) -> None:
    """Check every model against a vocabulary that is known only after the data is prepared.

    Args:
        request: what was searched.
        searched: its trials.
        vocab_size: tokens in the vocabulary.

    Raises:
        SuiteError: the first model that does not fit.
    """
    for trial in searched:
        check_model(
            trial.spec.model, vocab_size, f"{request.suite}: entries.{request.entry}.model at {in_words(trial.values)}"
        )


def in_words(values: Mapping[str, str]) -> str:
    """A point in words: `recipe.lr 1e-3, recipe.clip 0.25`."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _check_size(num_trials: int) -> None:
    if num_trials > MAX_TRIALS:
        raise SuiteError(f"the grid has {num_trials} trials, more than {MAX_TRIALS}; name fewer values")


def _check_distinct(searched: Sequence[Trial]) -> None:
    """Refuse two spellings of one value, and a value that changes no number here: both are one run."""
    first: dict[str, Trial] = {}
    for trial in searched:
        same = first.setdefault(_as_used(trial.spec).run_id, trial)
        if same is not trial:
            names = [name for name, value in trial.values.items() if same.values[name] != value]
            one, other = (in_words({name: each.values[name] for name in names}) for each in (same, trial))
            raise SuiteError(f"--over: {one} and {other} are one and the same run; name one of them")


def _as_used(spec: RunSpec) -> RunSpec:
    """The run with the width that its layers have in place of a `hidden` that is not used."""
    is_unused = unused_setting(spec.model) is not None
    return replace(spec, model={**spec.model, "hidden": spec.model["embedding"]}) if is_unused else spec


def _as_trial(spec: RunSpec, values: dict[str, str]) -> RunSpec:
    """The run under a label of the search, compared with no published row and without timed kernels."""
    title = f"{spec.label.title}, {in_words(values)}"
    label = replace(spec.label, profile=PROFILE, title=title, published=None)
    return replace(spec, label=label, kernels=())


def trials_folder(results: Path) -> Path:
    """A results tree inside the results, so that no leaderboard shows trials."""
    return results / "search"
