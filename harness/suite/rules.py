"""Rules of a suite beyond the types of its keys: names in other packages' tables, and keys that depend on others.

Each function adds what is wrong to `problems`, so that one reading reports everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, get_args, get_type_hints

import kernels
import models
from harness import data
from harness.core.errors import DataError, SuiteError
from harness.core.json_values import parse_value
from harness.core.messages import near, shown
from harness.core.metrics import METRICS
from harness.core.specs import Suite
from harness.data import DatasetConfig, MarkovSource, Registered
from harness.results import published
from harness.suite.blocks import EntryBlock, is_name, name_rule
from harness.suite.check import Keys, Problems, check, cite_field, dotted, locate
from harness.suite.merge import entries_of, without
from harness.suite.yaml_reader import Node, Where, plain
from models.markov.config import Config as OracleConfig

# Value of the dataset's key `kind` -> the config of that kind, read from the configs' own annotations.
KINDS: dict[str, type[Any]] = {
    kind: config for config in get_args(DatasetConfig) for kind in get_args(get_type_hints(config).get("kind"))
}

# Large enough for any model's cutoffs, so that its parameters can be counted before the vocabulary is known.
_ANY_VOCABULARY = 1 << 64


def dataset_config(root: Node, problems: Problems) -> DatasetConfig | None:
    """The config of the suite's `dataset`, a name or a block; None if it does not fit."""
    member = root.members.get("dataset")
    if member is None:
        problems.add(root.where, "dataset is missing", is_missing=True)
        return None
    node, where = member.node, locate(root, ("dataset",), root.where)
    if isinstance(node.value, str):
        known = (*data.DATASETS, *data.ALIASES)
        if node.value in known:
            return Registered(name=node.value)
        problems.unknown(where, "dataset", node.value, known)
    elif not isinstance(node.value, dict):
        problems.add(where, f"dataset must be a name or a block of keys, got {shown(plain(node))}")
    elif "kind" in node.members:
        return _dataset_of_kind(node, where, problems)
    elif "name" in node.members:
        config: Registered | None = check(node, Registered, ("dataset",), problems, under=where)
        return config
    else:
        problems.add(where, f"dataset needs a name, or a kind: {', '.join(KINDS)}")
    return None


def _dataset_of_kind(node: Node, where: Where, problems: Problems) -> DatasetConfig | None:
    kind = node.members["kind"].node
    if not isinstance(kind.value, str) or kind.value not in KINDS:
        text = plain(kind)
        problems.add(kind.where, f"dataset.kind {shown(text)} is unknown.{near(str(text), KINDS)}")
        return None
    config: DatasetConfig | None = check(node, KINDS[kind.value], ("dataset",), problems, under=where)
    if config is not None:
        try:
            data.facts(config)
        except DataError as error:  # the file has the name of a registered dataset
            problems.add(where, f"dataset: {error}")
    return config


def check_names(root: Node, problems: Problems) -> None:
    """Names of metrics, kernels and published rows must be known; names of entries must be safe in a file name."""
    rows = _published_names()
    _each_known(root, "metrics", METRICS, problems)
    _each_known(root, "kernels", kernels.KERNELS, problems)
    _each_known(root, "published", rows, problems)
    for name, (where, entry) in entries_of(root).items():
        if not is_name(name):
            problems.add(where, f"entries {name_rule(name)}")
        _check_kernel(name, entry, problems)
        row = entry.members.get("published")
        if row is not None and isinstance(row.node.value, str) and row.node.value not in rows:
            problems.unknown(row.node.where, f"entries.{name}.published", row.node.value, rows)


def _each_known(root: Node, key: str, known: Iterable[str], problems: Problems) -> None:
    member = root.members.get(key)
    items = member.node.value if member is not None else ()
    for index, item in enumerate(items if isinstance(items, tuple) else ()):
        if isinstance(item.value, str) and item.value not in known:
            problems.unknown(item.where, dotted((key, index)), item.value, known)


def _check_kernel(name: str, entry: Node, problems: Problems) -> None:
    """A kernel must be a backend of the operation that the entry's builder uses."""
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
            text = f"{path} '{kernel}' is not a kernel of {builder.node.value}, which has {', '.join(known)}"
            problems.add(value.node.where, text)


def check_metrics(root: Node, dataset: DatasetConfig, problems: Problems) -> None:
    """A metric must fit the dataset's unit: bits per character do not describe words."""
    member = root.members.get("metrics")
    # Without problems so far, every name in the list is a known metric.
    if member is None or not isinstance(member.node.value, tuple) or problems.items:
        return
    unit = data.facts(dataset).unit
    for index, item in enumerate(member.node.value):
        metric = METRICS[str(item.value)]
        if unit in metric.not_per:
            fitting = ", ".join(name for name, other in METRICS.items() if unit not in other.not_per)
            text = f"metrics[{index}] '{metric.name}' is in {metric.unit}, but a unit of this dataset is a {unit}"
            problems.add(item.where, f"{text}; it has {fitting}")


def model_config(entry: Node, path: Keys, problems: Problems) -> Any:
    """The config of an entry's model, of the builder's own class; None if it does not fit."""
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
    return check(without(member.node, "builder"), models.config_class(name), path, problems, under=member.where)


def check_weights(root: Node, name: str, entry: EntryBlock, config: Any, problems: Problems) -> None:
    """A model with parameters needs a recipe or a checkpoint, not both; a model without takes neither."""
    path, where = f"entries.{name}", locate(root, ("entries", name), root.where)
    if entry.recipe is not None and entry.checkpoint is not None:
        problems.add(where, f"{path} has both recipe and checkpoint: one trains the weights, the other loads them")
    elif config is None:
        return
    elif config.num_parameters(_ANY_VOCABULARY) == 0:
        if entry.recipe is not None or entry.checkpoint is not None:
            builder = entry.model["builder"]
            problems.add(where, f"{path}: a {builder} has nothing to learn; remove its recipe or checkpoint")
    elif entry.recipe is None and entry.checkpoint is None:
        problems.add(where, f"{path} needs a recipe to train by, or a checkpoint to load")


def check_model_and_data(root: Node, name: str, config: Any, dataset: DatasetConfig, problems: Problems) -> None:
    """An oracle must have the parameters of the data's source, and cutoffs must be below a known vocabulary."""
    path = ("entries", name, "model")
    where = locate(root, path, root.where)
    if isinstance(config, OracleConfig):
        if not isinstance(dataset, MarkovSource):
            problems.add(where, f"{dotted(path)}: an oracle needs a dataset of kind markov")
            return
        for key in (field.name for field in fields(config)):
            ours, theirs = getattr(config, key), getattr(dataset, key)
            if ours != theirs:
                at = (*path, key)
                text = f"{dotted(at)} is {ours}, but dataset.{key} is {theirs}: an oracle needs the same; set both"
                problems.add(locate(root, at, root.where), text)
        return
    # Own text has no vocabulary until it is prepared: `check_vocabulary` looks at it then.
    vocab_size = data.facts(dataset).vocab_size if not problems.items else None
    problem = misfit(config, vocab_size) if vocab_size is not None else None
    if problem is not None:
        problems.add(*cite_field(problem, root, path, path, where))


def misfit(config: Any, vocab_size: int) -> str | None:
    """Why a model's config does not fit a vocabulary (its cutoffs are beyond it); None if it fits."""
    try:
        config.num_parameters(vocab_size)
    except ValueError as error:
        return str(error)
    return None


def config_of(model: Mapping[str, Any]) -> Any:
    """The config of a model block that was checked before: `builder` and the settings of its class."""
    settings = {key: value for key, value in model.items() if key != "builder"}
    return parse_value(models.config_class(model["builder"]), settings)


def check_vocabulary(suite: Suite, vocab_size: int) -> None:
    """Raise SuiteError if an entry's model does not fit a vocabulary that became known when the data was prepared."""
    for entry in suite.entries:
        check_model(entry.model, vocab_size, f"{suite.path}: entries.{entry.name}.model")


def check_model(model: Mapping[str, Any], vocab_size: int, where: str) -> None:
    """Raise SuiteError if a model does not fit a vocabulary.

    Args:
        model: `builder` and the settings of the model, already checked.
        vocab_size: tokens in the vocabulary.
        where: the place of the model, to start the message with.

    Raises:
        SuiteError: the model cannot have this vocabulary.
    """
    problem = misfit(config_of(model), vocab_size)
    if problem is not None:
        raise SuiteError(f"{where}: {problem}")


@cache
def _published_rows() -> tuple[published.PublishedRow, ...]:
    return published.load(published.find())


def _published_names() -> list[str]:
    """Ids of published rows, and the stems that name the rows of one model on several splits together."""
    names = {row.id: None for row in _published_rows()}
    return list(names | {row.id.removesuffix(f"-{row.split}"): None for row in _published_rows()})


def matching_rows(dataset: DatasetConfig, metrics: Sequence[str]) -> tuple[str, ...]:
    """Ids of the published rows of the same data, under the suite's name for it, in one of the suite's metrics."""
    name = getattr(dataset, "name", None)
    return tuple(row.id for row in _published_rows() if row.dataset == name and row.metric in metrics)
