"""A profile and `--set` laid over a suite: mappings merge, everything else is replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from harness.core.errors import SuiteError
from harness.core.messages import near
from harness.suite.yaml.nodes import Member, Node, Where, parse_yaml

NOT_IN_A_PROFILE = ("suite", "profiles")
FOR_ALL_ENTRIES = {"model": "model", "recipe": "recipe", "speed": "recipe"}
"""Keys of an entry that may be set for all at once -> the block that an entry must have for it to matter."""


def merge(base: Node, over: Node, path: tuple[str, ...] = ()) -> Node:
    """`over` laid on `base`. A null entry drops that entry; a dataset of another kind replaces the whole block."""
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)):
        return over
    if path == ("dataset",) and _kind(over) not in (None, _kind(base)):
        return over
    merged = dict(base.value)
    for key, member in over.value.items():
        if path == ("entries",) and member.node.value is None:
            merged.pop(key, None)
        elif key in merged:
            old = merged[key]
            both = isinstance(old.node.value, dict) and isinstance(member.node.value, dict)
            merged[key] = Member(old.where if both else member.where, merge(old.node, member.node, (*path, key)))
        else:
            merged[key] = member
    return replace(base, value=merged)


def _kind(dataset: Node) -> object:
    member = dataset.members.get("kind")
    return member.node.value if member else None


def without(root: Node, keys: tuple[str, ...]) -> Node:
    return replace(root, value={key: member for key, member in root.members.items() if key not in keys})


def apply_profile(root: Node, name: str) -> Node:
    """The suite under a profile of its file; `full` is the file itself where it defines none."""
    base = without(root, ("profiles",))
    profiles = root.members.get("profiles")
    if profiles is None or name not in profiles.node.members:
        return base
    member = profiles.node.members[name]
    over = member.node
    if over.value is None:
        return base
    if not isinstance(over.value, dict):
        raise SuiteError(f"{member.where}: profiles.{name} must be a block of keys")
    for key in NOT_IN_A_PROFILE:
        if key in over.members:
            raise SuiteError(f"{over.members[key].where}: profiles.{name}.{key} cannot be changed by a profile")
    entries, old = over.members.get("entries"), base.members.get("entries")
    for entry, dropped in entries.node.members.items() if entries else ():
        known = old.node.members if old else {}
        if dropped.node.value is None and entry not in known:
            hint = near(entry, known)
            raise SuiteError(f"{dropped.where}: profiles.{name}.entries '{entry}' is unknown, so not dropped.{hint}")
    return merge(base, over)


def apply_overrides(root: Node, overrides: tuple[str, ...]) -> Node:
    """Each `KEY=VALUE` laid on the suite in turn; VALUE is YAML 1.2. A key in FOR_ALL_ENTRIES reaches every entry."""
    for text in overrides:
        key, equals, value = text.partition("=")
        keys = tuple(key.strip().split("."))
        where = Where(f"--set {key.strip()}")
        if not equals or not all(keys):
            raise SuiteError(f"--set {text}: is not KEY=VALUE, such as entries.NAME.recipe.lr=2e-3")
        if keys[0] in NOT_IN_A_PROFILE:
            raise SuiteError(f"{where}: '{keys[0]}' cannot be set")
        node = parse_yaml(value, where.source, numbered=False) or Node(where, None)
        root = merge(root, _override(root, keys, node, where))
    return root


def _override(root: Node, keys: tuple[str, ...], value: Node, where: Where) -> Node:
    entries = root.members["entries"].node.members if "entries" in root.members else {}
    if keys[0] in FOR_ALL_ENTRIES:
        needed = FOR_ALL_ENTRIES[keys[0]]
        owners = [name for name, member in entries.items() if _has_block(member.node, needed)]
        if not owners:
            raise SuiteError(f"{where}: no entry has a {needed}")
        return _nest(("entries",), _block({name: _nest(keys, value, where) for name in owners}, where), where)
    if keys[0] == "entries" and len(keys) > 1 and keys[1] not in entries:
        raise SuiteError(f"{where}: entries '{keys[1]}' is unknown.{near(keys[1], entries)}")
    return _nest(keys, value, where)


def _has_block(entry: Node, key: str) -> bool:
    return key in entry.members and isinstance(entry.members[key].node.value, dict)


def _nest(keys: tuple[str, ...], value: Node, where: Where) -> Node:
    for key in reversed(keys):
        value = _block({key: value}, where)
    return value


def _block(values: Mapping[str, Node], where: Where) -> Node:
    return Node(where, {key: Member(where, node) for key, node in values.items()})
