"""A suite file and its profile into a checked `Suite`. Every profile is checked, not only the chosen one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import kernels
import models
from harness import data
from harness.config.as_json import as_json
from harness.core.errors import SuiteError
from harness.core.messages import near, shown
from harness.core.metrics import METRICS
from harness.core.specs import Entry, Suite
from harness.results import published
from harness.suite.check import Keys, Problems, check, dotted, locate, own_words
from harness.suite.dataset import dataset_block
from harness.suite.fit import misfit
from harness.suite.merge import apply_overrides, apply_profile, without
from harness.suite.shape import DEFAULT_PROFILE, EntryBlock, SuiteBlock, is_name, name_rule
from harness.suite.yaml.nodes import Node, Where, plain, read_yaml
from models.markov.config import Config as SourceConfig

_ANY_VOCABULARY = 1 << 64
"""Large enough for any model's config to count its parameters."""


def load(path: str | Path, *, profile: str | None = None, overrides: Sequence[str] = ()) -> Suite:
    """Read and check a suite under `profile` (default `full`), with `--set` overrides laid on last.

    Raises SuiteError: one line with file, line, dotted path, what is wrong and the near name. Loads no data.
    """
    path = Path(path)
    root = read_yaml(path)
    names = _profile_names(root, path)
    chosen = profile or DEFAULT_PROFILE
    if chosen not in names:
        raise SuiteError(f"{path}: profile '{chosen}' is unknown.{near(chosen, names)}")
    suites = {name: _checked(apply_profile(root, name), name, names, path) for name in names}
    if not overrides:
        return suites[chosen]
    changed = apply_overrides(apply_profile(root, chosen), tuple(overrides))
    return _checked(changed, chosen, names, path, note=f" (after --set {' --set '.join(overrides)})")


def load_dataset(path: str | Path) -> tuple[dict[str, Any], Path]:
    """The dataset block of a suite, and the folder its relative paths start from; nothing else need be there."""
    path = Path(path)
    root = read_yaml(path)
    problems = Problems()
    dataset = dataset_block(root, problems)
    problems.raise_if_any()
    return dataset, path.parent


def _profile_names(root: Node, path: Path) -> tuple[str, ...]:
    member = root.members.get("profiles")
    if member is None or member.node.value is None:
        return (DEFAULT_PROFILE,)
    if not isinstance(member.node.value, dict):
        raise SuiteError(f"{member.where}: profiles must be a block of names")
    for name, profile in member.node.value.items():
        if not is_name(name):
            raise SuiteError(f"{profile.where}: profiles {name_rule(name)}")
    return tuple(dict.fromkeys((DEFAULT_PROFILE, *member.node.value)))


def _checked(root: Node, profile: str, profiles: tuple[str, ...], path: Path, *, note: str | None = None) -> Suite:
    """One profile's view of the file as a Suite. note: what to add to an error, the profile where absent."""
    if note is None:
        note = "" if profile == DEFAULT_PROFILE else f" (in profile {profile})"
    problems = Problems()
    block: SuiteBlock | None = check(root, SuiteBlock, (), problems)
    dataset = dataset_block(root, problems)
    _known_names(root, problems)
    _metrics_fit(root, dataset, problems)
    configs = {
        name: _model(member.node, ("entries", name, "model"), problems)
        for name, member in _entries(root).items()
        if "model" in member.node.members
    }
    for name, entry in block.entries.items() if block is not None else ():
        _weights(entry, configs[name], locate(root, ("entries", name), root.where), name, problems)
    for name, config in configs.items():
        if isinstance(config, SourceConfig) and dataset:
            _source(root, name, config, dataset, problems)
        elif config is not None and dataset:
            _vocabulary_fits(root, name, config, dataset, problems)
    problems.raise_if_any(note)
    if block is None:
        raise AssertionError("a block that does not fit leaves a problem")
    return Suite(
        path=path,
        name=block.suite,
        task=block.task,
        profile=profile,
        profiles=profiles,
        dataset=dataset,
        dataset_title=block.dataset_title or data.facts(dataset).title,
        metrics=block.metrics,
        evaluation=block.evaluation,
        seeds=block.seeds,
        entries=tuple(_entry(name, entry, configs[name]) for name, entry in block.entries.items()),
        published=block.published if block.published is not None else _fitting_rows(dataset, block.metrics),
        checkpoint_every_s=block.checkpoint_every_s,
        kernels=block.kernels,
    )


def _entry(name: str, entry: EntryBlock, config: Any) -> Entry:
    return Entry(
        name=name,
        title=entry.title or name,
        model={"builder": entry.model["builder"], **as_json(config)},
        recipe=entry.recipe,
        checkpoint=entry.checkpoint,
        published=entry.published,
        dtype=entry.dtype,
        kernel=entry.kernel,
        speed=entry.speed,
        adaptive=entry.adaptive,
    )


def _entries(root: Node) -> Mapping[str, Any]:
    return root.members["entries"].node.members if "entries" in root.members else {}


def _known_names(root: Node, problems: Problems) -> None:
    """Names that other rooms own: metrics, kernels, and those that become file names."""
    _each_known(root, "metrics", METRICS, problems)
    _each_known(root, "kernels", kernels.KERNELS, problems)
    rows = _published_names()
    _each_known(root, "published", rows, problems)
    for name, member in _entries(root).items():
        if not is_name(name):
            problems.add(member.where, f"entries {name_rule(name)}")
        _kernel(name, member.node, problems)
        value = member.node.members.get("published")
        if value is not None and isinstance(value.node.value, str) and value.node.value not in rows:
            problems.unknown(value.node.where, f"entries.{name}.published", value.node.value, rows)


def _metrics_fit(root: Node, dataset: Mapping[str, Any], problems: Problems) -> None:
    """No bits per word under the name of bits per character."""
    member = root.members.get("metrics")
    if member is None or not isinstance(member.node.value, tuple) or problems.found:
        return
    unit = data.facts(dataset).unit
    for index, item in enumerate(member.node.value):
        metric = METRICS[str(item.value)]
        if unit in metric.not_per:
            fitting = ", ".join(name for name, other in METRICS.items() if unit not in other.not_per)
            text = f"metrics[{index}] '{metric.name}' is in {metric.unit}, but a unit of this dataset is a {unit}"
            problems.add(item.where, f"{text}; it has {fitting}")


def _kernel(name: str, entry: Node, problems: Problems) -> None:
    """A kernel that is one of the builder's own."""
    value, model = entry.members.get("kernel"), entry.members.get("model")
    if value is None or not isinstance(value.node.value, str):
        return
    kernel, path = value.node.value, f"entries.{name}.kernel"
    every = ["auto", *dict.fromkeys(each for table in kernels.KERNELS.values() for each in table)]
    builder = model.node.members.get("builder") if model is not None else None
    if kernel not in every:
        problems.unknown(value.node.where, path, kernel, every)
    elif builder is not None and builder.node.value in models.BUILDERS:
        op = models.KERNEL_OPS.get(str(builder.node.value))
        known = ["auto", *(kernels.KERNELS[op] if op is not None else ())]
        if kernel not in known:
            text = f"{path} '{kernel}' is none of {builder.node.value}'s: it has {', '.join(known)}"
            problems.add(value.node.where, text)


def _each_known(root: Node, key: str, known: Iterable[str], problems: Problems) -> None:
    member = root.members.get(key)
    items = member.node.value if member is not None else ()
    for index, item in enumerate(items if isinstance(items, tuple) else ()):
        if isinstance(item.value, str) and item.value not in known:
            problems.unknown(item.where, dotted((key, index)), item.value, known)


def _model(entry: Node, path: Keys, problems: Problems) -> Any:
    """The config of an entry's model, or None where it does not fit."""
    member = entry.members["model"]
    if not isinstance(member.node.value, dict):
        return None  # its type is already among the problems
    builder = member.node.members.get("builder")
    if builder is None:
        problems.add(member.where, f"{dotted(path)}.builder is missing", is_missing=True)
        return None
    name, where = builder.node.value, builder.node.where
    if not isinstance(name, str):
        problems.add(where, f"{dotted(path)}.builder must be text, got {shown(plain(builder.node))}")
        return None
    if name not in models.BUILDERS:
        problems.unknown(where, f"{dotted(path)}.builder", name, models.BUILDERS)
        return None
    return check(without(member.node, ("builder",)), models.config_class(name), path, problems, under=member.where)


def _weights(entry: EntryBlock, config: Any, where: Where, name: str, problems: Problems) -> None:
    """A model that learns has a recipe or a checkpoint, not both; one that does not has neither."""
    path = f"entries.{name}"
    if entry.recipe is not None and entry.checkpoint is not None:
        problems.add(where, f"{path} has both recipe and checkpoint: one trains the weights, the other brings them")
    elif config is None:
        return
    elif config.num_parameters(_ANY_VOCABULARY) == 0:
        if entry.recipe is not None or entry.checkpoint is not None:
            builder = entry.model["builder"]
            problems.add(where, f"{path}: a {builder} has nothing to learn; take its recipe or checkpoint away")
    elif entry.recipe is None and entry.checkpoint is None:
        problems.add(where, f"{path} needs a recipe to train by, or a checkpoint to load")


def _source(root: Node, name: str, config: SourceConfig, dataset: Mapping[str, Any], problems: Problems) -> None:
    """The oracle knows the distribution of one source; over any other data it would be no oracle."""
    path = ("entries", name, "model")
    if dataset.get("kind") != "markov":
        problems.add(locate(root, path, root.where), f"{dotted(path)}: an oracle needs a dataset of kind markov")
        return
    for key in (field.name for field in fields(config)):
        ours, theirs = getattr(config, key), dataset[key]
        if ours != theirs:
            at = (*path, key)
            text = f"{dotted(at)} is {ours}, but dataset.{key} is {theirs}: an oracle is that of its own data; set both"
            problems.add(locate(root, at, root.where), text)


def _vocabulary_fits(root: Node, name: str, config: Any, dataset: Mapping[str, Any], problems: Problems) -> None:
    """Where the table of datasets knows the vocabulary; the user's own text is looked at once it is prepared."""
    vocab_size = data.facts(dataset).vocab_size if not problems.found else None
    problem = misfit(config, vocab_size) if vocab_size is not None else None
    if problem is not None:
        path = ("entries", name, "model")
        problems.add(*own_words(problem, root, path, path, locate(root, path, root.where)))


@cache
def _published_rows() -> tuple[published.PublishedRow, ...]:
    return published.load(published.find())


def _published_names() -> list[str]:
    """Ids of published rows, and the stems that name a row of one split together with its twin of another."""
    names = {row.id: None for row in _published_rows()}
    return list(names | {row.id.removesuffix(f"-{row.split}"): None for row in _published_rows()})


def _fitting_rows(dataset: Mapping[str, Any], metrics: Sequence[str]) -> tuple[str, ...]:
    """Rows of the same data, under the name the suite gives it, in one of the suite's metrics."""
    name = dataset.get("name")
    return tuple(row.id for row in _published_rows() if row.dataset == name and row.metric in metrics)
