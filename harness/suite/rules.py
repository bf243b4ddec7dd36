"""Rules of a suite beyond the types of its keys: names in other packages' tables, and keys that depend on others.

Each function raises SuiteError with the position of the first mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any

import lm_kernels
import lm_models
from harness import data
from harness.core.config.evaluation import CODING, Evaluation
from harness.core.config.speed import Speed
from harness.core.errors import DataError, SuiteError
from harness.core.json_values import parse_value
from harness.core.messages import near, shown
from harness.core.metrics import METRICS
from harness.core.specs import Entry, Suite
from harness.data import DatasetConfig, MarkovSource, Registered
from harness.results import published
from harness.suite.blocks import EntryBlock, is_name, name_rule
from harness.suite.check import check, cite_field, dotted, locate, refusal, unknown
from harness.suite.merge import entries_of, without
from harness.suite.yaml_reader import Node, plain
from lm_models import ModelConfig
from lm_models.config import RecurrentConfig
from lm_models.markov.config import Config as OracleConfig

# Large enough for any model's cutoffs, so that its parameters can be counted before the vocabulary is known.
_ANY_VOCABULARY = 1 << 64


def dataset_config(root: Node) -> DatasetConfig:
    """The config of the suite's `dataset`, a name or a block."""
    member = root.members.get("dataset")
    if member is None:
        raise refusal(root.where, "dataset is missing")
    node, where = member.node, locate(root, ("dataset",), root.where)
    if isinstance(node.value, str):
        known = tuple(data.DATASETS)
        if node.value not in known:
            raise unknown(where, "dataset", node.value, known)
        return Registered(name=node.value)
    if not isinstance(node.value, dict):
        raise refusal(where, f"dataset must be a name or a block of keys, got {shown(plain(node))}")
    if "kind" not in node.members:
        if "name" not in node.members:
            raise refusal(where, f"dataset needs a name, or a kind: {', '.join(data.KINDS)}")
        return check(node, Registered, ("dataset",), where)
    kind = node.members["kind"].node
    if not isinstance(kind.value, str) or kind.value not in data.KINDS:
        text = plain(kind)
        raise refusal(kind.where, f"dataset.kind {shown(text)} is unknown.{near(str(text), data.KINDS)}")
    config: DatasetConfig = check(node, data.KINDS[kind.value], ("dataset",), where)
    try:
        data.facts(config)
    except DataError as error:  # the file has the name of a registered dataset
        raise refusal(where, f"dataset: {error}") from None
    return config


def check_names(root: Node, dataset: DatasetConfig) -> None:
    """Check names that other packages' tables hold, and names of entries, which become parts of file names."""
    for key, known in (("metrics", METRICS), ("kernels", lm_kernels.KERNELS)):
        for index, item in enumerate(_items(root, key)):
            if item.value not in known:
                raise unknown(item.where, dotted((key, index)), str(item.value), known)
    unit = data.facts(dataset).unit
    for index, item in enumerate(_items(root, "metrics")):
        metric = METRICS[str(item.value)]
        if unit not in metric.dataset_units:  # bits per character do not describe words
            fitting = ", ".join(name for name, other in METRICS.items() if unit in other.dataset_units)
            text = f"metrics[{index}] '{metric.name}' is in {metric.unit}, but a unit of this dataset is a {unit}"
            raise refusal(item.where, f"{text}; it has {fitting}")
    for name, (where, entry) in entries_of(root).items():
        if not is_name(name):
            raise refusal(where, f"entries {name_rule(name)}")
        row = entry.members.get("published")
        if row is not None and row.node.value is not None:
            _check_comparable(row.node, f"entries.{name}.published", root, dataset)


def _check_comparable(row: Node, path: str, root: Node, dataset: DatasetConfig) -> None:
    """A published row must be of the suite's data and in one of its metrics: no table would show it otherwise."""
    metrics = [str(item.value) for item in _items(root, "metrics")]
    # Own text may have no name, and cannot take a registered one; None equals the dataset of no row.
    own = getattr(dataset, "name", None)
    named = [each for each in _published_rows() if row.value in _names_of(each)]
    if not named:
        known = dict.fromkeys(name for each in _published_rows() for name in _names_of(each))
        raise unknown(row.where, path, str(row.value), known)
    if not any(each.dataset == own and each.metric in metrics for each in named):
        ours = f"{data.facts(dataset).title} in {', '.join(metrics)}"
        theirs = f"{named[0].dataset} in {named[0].metric}"
        raise refusal(row.where, f"{path} '{row.value}' is a value of {theirs}, not of {ours}")


def _items(root: Node, key: str) -> tuple[Node, ...]:
    member = root.members.get(key)
    return member.node.value if member is not None and isinstance(member.node.value, tuple) else ()


def model_config(root: Node, name: str) -> ModelConfig:
    """The config of an entry's model, of the builder's own class; its kernel must be one that the builder uses."""
    entry, path = entries_of(root)[name].node, ("entries", name, "model")
    where, model = entry.members["model"]
    if "builder" not in model.members:
        raise refusal(where, f"{dotted(path)}.builder is missing")
    value = model.members["builder"].node
    builder = value.value
    if not isinstance(builder, str):
        raise refusal(value.where, f"{dotted(path)}.builder must be text, got {shown(plain(value))}")
    if not lm_models.is_known(builder):
        raise unknown(value.where, f"{dotted(path)}.builder", builder, lm_models.builders())
    if "kernel" in entry.members:
        kernel, op = entry.members["kernel"].node, lm_models.KERNEL_OPS.get(builder)
        path_of_kernel, own = f"entries.{name}.kernel", ["auto", *(lm_kernels.KERNELS[op] if op is not None else ())]
        every = ["auto", *dict.fromkeys(each for table in lm_kernels.KERNELS.values() for each in table)]
        if kernel.value not in every:
            raise unknown(kernel.where, path_of_kernel, str(kernel.value), every)
        if kernel.value not in own:
            text = f"{path_of_kernel} '{kernel.value}' is not a kernel of {builder}, which has {', '.join(own)}"
            raise refusal(kernel.where, text)
    try:
        config_class = lm_models.config_class(builder)
    except ValueError as error:  # a model from outside that cannot be imported
        raise refusal(value.where, f"{dotted(path)}.builder: {error}") from None
    config: ModelConfig = check(without(model, "builder"), config_class, path, where)
    return config


def check_weights(root: Node, name: str, entry: EntryBlock, config: ModelConfig, evaluation: Evaluation) -> None:
    """A model with parameters needs a recipe, a checkpoint or `prequential`; a model without takes neither.

    A model that is fitted at once takes no recipe, and counts have no dtype.
    """
    path, where = f"entries.{name}", locate(root, ("entries", name), root.where)
    builder = entry.model["builder"]
    if lm_models.is_fitted(builder):
        if entry.recipe is not None:
            raise refusal(where, f"{path}: {builder} is fitted to the training split at once; remove its recipe")
        if entry.dtype != "float32" and builder in lm_models.BUILDERS:
            raise refusal(where, f"{path}.dtype is nothing to {builder}, which counts; remove it")
        return
    if entry.recipe is not None and entry.checkpoint is not None:
        raise refusal(where, f"{path} has both recipe and checkpoint: one trains the weights, the other loads them")
    has_weights = entry.recipe is not None or entry.checkpoint is not None
    try:
        learns = config.num_parameters(_ANY_VOCABULARY) > 0
    except ValueError as error:  # raised by the constructor of a model from outside
        raise refusal(where, f"{path}.model: {error}") from None
    if has_weights and not learns:
        raise refusal(where, f"{path}: a {builder} has nothing to learn; remove its recipe or checkpoint")
    if not learns or has_weights:
        return
    if "prequential" not in evaluation.protocols:
        raise refusal(where, f"{path} needs a recipe to train by, or a checkpoint to load")
    adaptive = entry.adaptive or evaluation.adaptive
    methods = {} if adaptive is None else adaptive.by_protocol()
    if list(methods) != ["dynamic-sgd"] or len(methods["dynamic-sgd"].settings()) != 1:
        text = (
            "is not trained, so that it learns while it is scored (prequential): give it one setting to learn by, as in"
        )
        raise refusal(where, f"{path} {text} adaptive: {{dynamic_sgd: {{lr: [0.3]}}}}")


def check_protocols(root: Node, name: str, entry: EntryBlock, evaluation: Evaluation) -> None:
    """A pretrained model has no streams of a fixed trim. Nothing adapts it, or a fitted model, to a text."""
    builder = entry.model["builder"]
    path, where = f"entries.{name}", locate(root, ("entries", name), root.where)
    if lm_models.is_fitted(builder) and (evaluation.adaptive is not None or entry.adaptive is not None):
        raise refusal(where, f"{path}: {builder} is fitted to the training split, and takes no adaptive protocol")
    if builder not in lm_models.PRETRAINED:
        return
    if "official" in evaluation.protocols:
        raise refusal(where, f"{path}: a pretrained model is scored by exact or streams, not by official")
    if entry.dtype != "float32":
        raise refusal(where, f"{path}.dtype is of training; a pretrained model's is a key of its model block")
    if evaluation.adaptive is not None or entry.adaptive is not None:
        raise refusal(where, f"{path}: a pretrained model takes no adaptive protocol")


def check_compressor(root: Node, name: str, entry: EntryBlock, evaluation: Evaluation, dataset: DatasetConfig) -> None:
    """A model needs a protocol of its own; a compressor needs a text, and has no setting of training."""
    path, where = f"entries.{name}", locate(root, ("entries", name), root.where)
    if entry.model["builder"] not in lm_models.COMPRESSORS:
        untrained = is_untrained(entry.model, entry)
        if set(evaluation.protocols) <= set(CODING) and not untrained:
            text = f"evaluation.protocols are of compressors alone; name exact, official or streams for {path}"
            raise refusal(locate(root, ("evaluation", "protocols"), where), text)
        return
    for key, default in (("dtype", "float32"), ("adaptive", None), ("speed", Speed())):
        if getattr(entry, key) != default:
            raise refusal(where, f"{path}.{key} is nothing to a compressor; remove it")
    if isinstance(dataset, MarkovSource):
        raise refusal(where, f"{path}: a compressor needs a text, and the symbols of a markov source have none")


def check_model_and_data(root: Node, name: str, config: ModelConfig, dataset: DatasetConfig) -> None:
    """An oracle must have the parameters of the data's source, and cutoffs must be below a known vocabulary."""
    path = ("entries", name, "model")
    where = locate(root, path, root.where)
    if isinstance(config, OracleConfig):
        if not isinstance(dataset, MarkovSource):
            raise refusal(where, f"{dotted(path)}: an oracle needs a dataset of kind markov")
        for key in (field.name for field in fields(config)):
            ours, theirs = getattr(config, key), getattr(dataset, key)
            if ours != theirs:
                at = (*path, key)
                text = f"{dotted(at)} is {ours}, but dataset.{key} is {theirs}: an oracle needs the same; set both"
                raise refusal(locate(root, at, root.where), text)
    # Own text has no vocabulary until it is prepared: `check_vocabulary` looks at it then.
    vocab_size = data.facts(dataset).vocab_size
    problem = _misfit(config, vocab_size) if vocab_size is not None else None
    if problem is not None:
        raise refusal(*cite_field(problem, root, path, path, where))


def _misfit(config: ModelConfig, vocab_size: int) -> str | None:
    """Why a model's config does not fit a vocabulary (its cutoffs are beyond it); None if it fits."""
    try:
        config.num_parameters(vocab_size)
    except ValueError as error:
        return str(error)
    return None


def is_untrained(model: Mapping[str, Any], entry: EntryBlock | Entry) -> bool:
    """Whether a checked model has parameters that nothing trains or loads: it learns while it is scored.

    Args:
        model: `builder` and settings.
        entry: says whether there is a recipe or a checkpoint.
    """
    return entry.recipe is None and entry.checkpoint is None and config_of(model).num_parameters(_ANY_VOCABULARY) > 0


def config_of(model: Mapping[str, Any]) -> ModelConfig:
    """The config of a model block that was checked before: `builder` and the settings of its class."""
    settings = {key: value for key, value in model.items() if key != "builder"}
    config: ModelConfig = parse_value(lm_models.config_class(model["builder"]), settings)
    return config


def unused_setting(model: Mapping[str, Any]) -> str | None:
    """Why a setting of a checked model changes nothing; None if each has an effect."""
    config = config_of(model)
    if not isinstance(config, RecurrentConfig) or config.layers > 1 or not config.tie:
        return None
    if any(config.hidden in widths for widths in config.widths):
        return None
    width = config.embedding
    return f"model.hidden {config.hidden} is not used: one tied layer is as wide as its embedding, {width}; set {width}"


def check_vocabulary(suite: Suite, vocab_size: int) -> None:
    """Check every model against a vocabulary that became known when the data was prepared.

    Args:
        suite: a suite under its profile.
        vocab_size: tokens in the vocabulary.

    Raises:
        SuiteError: a model cannot have this vocabulary.
    """
    for entry in suite.entries:
        check_model(entry.model, vocab_size, f"{suite.path}: entries.{entry.name}.model")


def check_model(model: Mapping[str, Any], vocab_size: int, where: str) -> None:
    """Check one model against a vocabulary.

    Args:
        model: `builder` and the settings of the model, already checked.
        vocab_size: tokens in the vocabulary.
        where: the place of the model, to start the message with.

    Raises:
        SuiteError: the model cannot have this vocabulary.
    """
    problem = _misfit(config_of(model), vocab_size)
    if problem is not None:
        raise SuiteError(f"{where}: {problem}")


@cache
def _published_rows() -> tuple[published.PublishedRow, ...]:
    return published.load(published.find())


def _names_of(row: published.PublishedRow) -> tuple[str, str]:
    """The row's id, and the stem that names the rows of one model on several splits together."""
    return row.id, row.id.removesuffix(f"-{row.split}")
