"""What a search tries: axes from the `space` of an entry and from `--over`, their points, and the runs of a point.

Trials score the validation split only, so that nothing can be chosen by the test split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from harness.core.config.space import Parameter
from harness.core.errors import SuiteError
from harness.core.messages import near
from harness.core.specs import Entry, RunSpec, Suite
from harness.suite import check_model, load, resolve, unused_setting
from harness.suite.space import as_searched, block_of, is_possible, value_of

PROFILE = "search"
MAX_GRID = 200
NOT_SEARCHED = ("suite", "dataset", "metrics", "evaluation", "seeds", "published", "profiles")
SPLIT = "valid"

Sampler = Literal["grid", "random", "tpe"]
Pruner = Literal["none", "median", "halving"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One point: values by axis name, and one run per seed."""

    values: dict[str, str]
    specs: tuple[RunSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to search.

    Attributes:
        suite, profile: the file and its profile.
        entry: the entry to vary; None for the only one with a space.
        over: axes as `KEY=V1,V2,...`; each replaces that of the space.
        overrides: `KEY=VALUE` for every trial.
        tokens: length of each trial; None for the recipe's own length.
        seeds: of every trial; empty for the suite's.
        device: where to run.
        roots: read-only folders of data.
        sampler: how points are chosen.
        num_trials: how many the study has at the end; None for a grid.
        pruner: which rule stops trials early.
        study: the study's name; None for one that its content gives.
    """

    suite: Path
    entry: str | None = None
    over: Sequence[str] = ()
    profile: str | None = None
    overrides: Sequence[str] = ()
    tokens: int | None = None
    seeds: Sequence[int] = ()
    device: str = "cpu"
    roots: Sequence[Path] = ()
    sampler: Sampler = "grid"
    num_trials: int | None = None
    pruner: Pruner = "none"
    study: str | None = None


@dataclass(frozen=True, slots=True)
class Space:
    """A request, checked: the entry, its axes in order, and its runs before any value is chosen, one per seed."""

    request: Request
    entry: str
    axes: Mapping[str, Parameter]
    specs: tuple[RunSpec, ...]

    @property
    def metric(self) -> str:
        return self.specs[0].label.metrics[0]

    def is_active(self, name: str, values: Mapping[str, str]) -> bool:
        """Whether an axis is searched at a point, whose values of the axes above it are known."""
        parameter = self.axes[name]
        return all(
            other in values and as_searched(values[other]) in map(as_searched, parameter.allowed(other))
            for other in parameter.when
        )

    def remarks(self) -> list[str]:
        """A line on each axis that is never searched, because of the values that `--over` gives to another."""
        return [
            f"{name} is not searched: --over never gives {other} {' or '.join(parameter.allowed(other))}"
            for name, parameter in self.axes.items()
            for other in parameter.when
            if not any(is_possible(self.axes[other], text) for text in parameter.allowed(other))
        ]

    def grid(self) -> list[dict[str, str]]:
        """Every point, the last axis fastest. SuiteError for an axis of real numbers and for too many points."""
        points: list[dict[str, str]] = [{}]
        for name, parameter in self.axes.items():
            points = [
                {**point, **chosen}
                for point in points
                for chosen in (
                    [{name: text} for text in _listed(name, parameter)] if self.is_active(name, point) else [{}]
                )
            ]
            if len(points) * len(self.specs) > MAX_GRID:
                raise SuiteError(f"the grid has more than {MAX_GRID} trials; name fewer values, or use another sampler")
        return points

    def trial(self, values: dict[str, str]) -> Trial:
        """The runs of a point. Raises SuiteError for a point that no run can have."""
        request = self.request
        chosen = [f"entries.{self.entry}.{name}={text}" for name, text in values.items()]
        # Loaded per point: a value may be wrong for the suite, and the error then names it.
        suite = load(request.suite, profile=request.profile, overrides=[*_base(request, self.entry), *chosen])
        return Trial(values, tuple(_as_trial(spec, values) for spec in _resolve(suite, self.entry, request)))

    def grid_trials(self) -> list[Trial]:
        """The trials of the grid. Nothing is run. Raises SuiteError for an invalid point and for two equal ones."""
        found = [self.trial(values) for values in self.grid()]
        _check_distinct(found)
        return found


def space_of(request: Request) -> Space:
    """Check a request before anything is run.

    Raises SuiteError for an unknown entry, nothing to search, a text that is no axis, and an entry that trains nothing.
    """
    suite = load(request.suite, profile=request.profile, overrides=request.overrides)
    entry = _entry(suite, request.entry)
    axes = {**entry.space, **_over(request.over, entry.name)}
    if not axes:
        raise SuiteError(
            f"nothing to search: give --over KEY=VALUE,VALUE at least once, or entries.{entry.name} a space"
        )
    for name in axes:
        if block := block_of(name, axes):
            raise SuiteError(f"--over: {name} is a key of {block}, which is searched as well: search one of them")
    if entry.recipe is None:
        raise SuiteError(f"{request.suite}: entry {entry.name} trains nothing, so there is nothing to search")
    if (request.sampler == "grid") != (request.num_trials is None):
        raise SuiteError("--trials N goes with --sampler random and tpe, which need it; a grid has all of its points")
    _check_pruner(request, axes)
    base = load(request.suite, profile=request.profile, overrides=_base(request, entry.name))
    space = Space(request, entry.name, axes, tuple(_resolve(base, entry.name, request)))
    every = space.specs[0].recipe.validation.every_tokens if space.specs[0].recipe else None
    if request.pruner != "none" and every is None:
        raise SuiteError(
            f"{request.suite}: --prune compares trials at equal tokens: give "
            f"entries.{entry.name}.recipe.validation.every_tokens"
        )
    return space


def check_vocabulary(space: Space, trial: Trial, vocab_size: int) -> None:
    """Check a trial's model against a vocabulary that is known only after the data is prepared.

    Args:
        space: the settings to search.
        trial: a trial of it.
        vocab_size: tokens in the vocabulary.

    Raises:
        SuiteError: the model does not fit.
    """
    place = f"{space.request.suite}: entries.{space.entry}.model at {in_words(trial.values)}"
    check_model(trial.specs[0].model, vocab_size, place)


def in_words(values: Mapping[str, str]) -> str:
    """A point in words: `recipe.lr 1e-3, recipe.clip 0.25`."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


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


def trials_folder(results: Path) -> Path:
    """A results tree inside the results, so that no leaderboard shows trials."""
    return results / "search"


def _entry(suite: Suite, name: str | None) -> Entry:
    known = {entry.name: entry for entry in suite.entries}
    if name is None:
        spaces = [entry for entry in suite.entries if entry.space] or list(suite.entries)
        if len(spaces) > 1:
            raise SuiteError(f"{suite.path}: name the entry to search with --entry: {', '.join(map(_name, spaces))}")
        return spaces[0]
    if name not in known:
        raise SuiteError(f"{suite.path}: entry '{name}' is unknown in profile {suite.profile}.{near(name, known)}")
    return known[name]


def _name(entry: Entry) -> str:
    return entry.name


def _over(over: Sequence[str], entry: str) -> dict[str, Parameter]:
    """The axes of `--over`; a key without `entries.` belongs to the entry."""
    result: dict[str, Parameter] = {}
    for text in over:
        key, equals, values = text.partition("=")
        parts = tuple(split_values(values))
        key = key.strip().removeprefix(f"entries.{entry}.")
        if not equals or not key or not all(parts):
            raise SuiteError(f"--over {text}: is not KEY=VALUE,VALUE, such as recipe.lr=1e-3,2e-3")
        if len(set(parts)) != len(parts):
            raise SuiteError(f"--over {key}: names a value twice")
        if key.split(".")[0] in (*NOT_SEARCHED, "entries"):
            raise SuiteError(
                f"--over {key}: a search may change neither the scoring, nor the dataset, nor another entry"
            )
        if key in result:
            raise SuiteError("--over names a key twice; give all its values at once")
        result[key] = Parameter(choice=parts)
    return result


def _check_pruner(request: Request, axes: Mapping[str, Parameter]) -> None:
    if request.pruner == "none":
        return
    if len(request.seeds) > 1:
        raise SuiteError("--prune judges one run a trial: give one --seed")
    for name in (changed for axis, parameter in axes.items() for changed in _changed(axis, parameter)):
        if name in ("recipe.tokens", "recipe.epochs") or name.startswith("recipe.validation"):
            raise SuiteError(f"--prune compares trials at equal tokens, so {name} cannot be searched with it")


def _changed(name: str, parameter: Parameter) -> list[str]:
    """The keys that an axis changes: its own, and those in the blocks that it chooses from."""
    blocks = [value for value in map(value_of, parameter.texts) if isinstance(value, dict)]
    return [name, *(f"{name}.{key}" for block in blocks for key in block)]


def _base(request: Request, entry: str) -> list[str]:
    # After the user's overrides, so that they cannot bring the test split back.
    base = [*request.overrides, f"evaluation.splits=[{SPLIT}]"]
    if request.tokens is not None:
        recipe = f"entries.{entry}.recipe"
        base += [f"{recipe}.tokens={request.tokens}", f"{recipe}.epochs=null", f"{recipe}.decay_at=[]"]
    return base


def _resolve(suite: Suite, entry: str, request: Request) -> list[RunSpec]:
    return resolve(suite, seeds=request.seeds or None, only=(entry,), device=request.device, roots=request.roots)


def _listed(name: str, parameter: Parameter) -> Sequence[str]:
    if parameter.texts:
        return parameter.texts
    if not parameter.is_integer:
        raise SuiteError(f"{name} has real numbers, which a grid cannot list: use --sampler random or tpe, or --over")
    low, high = map(int, parameter.bounds)
    # One more than a grid may have is enough for it to be refused.
    return [str(number) for number in range(low, min(high, low + MAX_GRID) + 1)]


def _check_distinct(searched: Sequence[Trial]) -> None:
    """Refuse two spellings of one value, and a value that changes no number here: both are one run."""
    first: dict[str, Trial] = {}
    for trial in searched:
        same = first.setdefault(_as_used(trial.specs[0]).run_id, trial)
        if same is not trial:
            names = [name for name, value in trial.values.items() if same.values.get(name) != value]
            one, other = (in_words({n: each.values[n] for n in names if n in each.values}) for each in (same, trial))
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
