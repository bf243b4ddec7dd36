"""The dataset of a suite: a registered name, the user's own text, or the synthetic source."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

from harness import data
from harness.config.as_json import as_json
from harness.core.errors import DataError
from harness.core.messages import near, shown
from harness.data.config import DatasetConfig, Registered
from harness.suite.check import Problems, check, locate
from harness.suite.yaml.nodes import Node, Where, plain

KINDS: dict[str, type[Any]] = {
    kind: config for config in get_args(DatasetConfig) for kind in get_args(get_type_hints(config).get("kind"))
}
"""What `kind` may say -> the config it stands for."""


def dataset_block(root: Node, problems: Problems) -> dict[str, Any]:
    """The dataset as a block that `harness.data.parse` takes, every default filled in; empty where it does not fit."""
    member = root.members.get("dataset")
    if member is None:
        problems.add(root.where, "dataset is missing", is_missing=True)
        return {}
    node, where = member.node, locate(root, ("dataset",), root.where)
    if isinstance(node.value, str):
        return _registered(node.value, where, "dataset", problems)
    if not isinstance(node.value, dict):
        problems.add(where, f"dataset must be a name or a block of keys, got {shown(plain(node))}")
        return {}
    kind = node.members.get("kind")
    if kind is None and "name" in node.members:
        config = check(node, Registered, ("dataset",), problems, under=where)
        return config.block() if config is not None else {}
    if kind is None:
        problems.add(where, f"dataset needs a name, or a kind: {', '.join(KINDS)}")
        return {}
    if not isinstance(kind.node.value, str) or kind.node.value not in KINDS:
        text = plain(kind.node)
        problems.add(kind.node.where, f"dataset.kind {shown(text)} is unknown.{near(str(text), KINDS)}")
        return {}
    config = check(node, KINDS[kind.node.value], ("dataset",), problems, under=where)
    if config is None:
        return {}
    try:
        data.facts(config)
    except DataError as error:  # a file whose name would pass for a registered dataset
        problems.add(where, f"dataset: {error}")
    return as_json(config)


def _registered(name: str, where: Where, path: str, problems: Problems) -> dict[str, Any]:
    known = (*data.DATASETS, *data.ALIASES)
    if name in known:
        return dict(Registered(name=name).block())
    problems.unknown(where, path, name, known)
    return {"name": name}
