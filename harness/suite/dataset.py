"""The dataset of a suite: a registered name, the user's own text, or the synthetic source."""

from __future__ import annotations

from typing import Any

from harness import data
from harness.config.as_json import as_json
from harness.core.errors import DataError
from harness.core.messages import near, shown
from harness.suite.check import Problems, check, locate
from harness.suite.yaml.nodes import Node, Where, plain


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
        config = check(node, data.Registered, ("dataset",), problems, under=where)
        return config.block() if config is not None else {}
    if kind is None:
        problems.add(where, f"dataset needs a name, or a kind: {', '.join(data.KINDS)}")
        return {}
    if not isinstance(kind.node.value, str) or kind.node.value not in data.KINDS:
        text = plain(kind.node)
        problems.add(kind.node.where, f"dataset.kind {shown(text)} is unknown.{near(str(text), data.KINDS)}")
        return {}
    config = check(node, data.KINDS[kind.node.value], ("dataset",), problems, under=where)
    if config is None:
        return {}
    try:
        data.facts(config)
    except DataError as error:  # a file whose name would pass for a registered dataset
        problems.add(where, f"dataset: {error}")
    return as_json(config)


def _registered(name: str, where: Where, path: str, problems: Problems) -> dict[str, Any]:
    if name in data.DATASETS:
        return dict(data.Registered(name=name).block())
    problems.unknown(where, path, name, data.DATASETS)
    return {"name": name}
