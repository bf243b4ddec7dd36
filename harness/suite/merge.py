"""Merge a profile and `--set` overrides into a suite: mappings merge, everything else is replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.core.errors import SuiteError
from harness.core.messages import near
from harness.suite.yaml_reader import Member, Node, Where, parse_yaml

# `suite` names the results of every profile, and profiles do not nest.
NOT_IN_A_PROFILE = ("suite", "profiles")
# Keys of an entry that `--set` may change for all entries -> the block an entry needs for the change to apply.
FOR_ALL_ENTRIES = {"model": "model", "recipe": "recipe", "speed": "recipe"}


def merge(base: Node, over: Node, path: tuple[str, ...] = ()) -> Node:
    """Merge one tree into another.

    Args:
        base: the tree to change; it is not modified.
        over: the tree that wins. A null entry drops that entry.
        path: keys from the top of the suite to both trees.

    Returns:
        The merged tree, whose nodes keep the positions of the tree they come from.
    """
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)):
        return over
    merged = dict(base.value)
    for key, member in over.value.items():
        if path == ("entries",) and member.node.value is None:
            merged.pop(key, None)
        elif key in merged:
            old = merged[key]
            # A merged block is still the file's: only what replaces a value cites the profile or option.
            both = isinstance(old.node.value, dict) and isinstance(member.node.value, dict)
            merged[key] = Member(old.where if both else member.where, merge(old.node, member.node, (*path, key)))
        else:
            merged[key] = member
    return replace(base, value=merged)


def without(root: Node, *keys: str) -> Node:
    """A copy of a mapping without some of its keys."""
    return replace(root, value={key: member for key, member in root.members.items() if key not in keys})


def entries_of(root: Node) -> Mapping[str, Member]:
    return root.members["entries"].node.members if "entries" in root.members else {}


def apply_profile(root: Node, name: str) -> Node:
    """Apply a profile of the file to the suite.

    Args:
        root: the file, with its `profiles`.
        name: the profile; `full` is the suite itself unless the file defines it.

    Returns:
        The suite without `profiles`.

    Raises:
        SuiteError: the profile is not a block, changes a key it may not, or drops an unknown entry.
    """
    base = without(root, "profiles")
    profiles = root.members.get("profiles")
    if profiles is None or name not in profiles.node.members:
        return base
    where, over = profiles.node.members[name]
    if over.value is None:
        return base
    if not isinstance(over.value, dict):
        raise SuiteError(f"{where}: profiles.{name} must be a block of keys")
    for key in NOT_IN_A_PROFILE:
        if key in over.members:
            raise SuiteError(f"{over.members[key].where}: profiles.{name}.{key} cannot be changed by a profile")
    known = entries_of(base)
    for entry, member in entries_of(over).items():
        # A misspelt name would otherwise drop nothing, and the profile would train a model that it means to leave out.
        if member.node.value is None and entry not in known:
            hint = near(entry, known)
            raise SuiteError(f"{member.where}: profiles.{name}.entries '{entry}' is unknown, so not dropped.{hint}")
    return merge(base, over)


def apply_overrides(root: Node, overrides: Sequence[str]) -> Node:
    """Apply `--set` options in order.

    Args:
        root: the suite under its profile.
        overrides: each `KEY=VALUE`, VALUE in YAML 1.2. A key in FOR_ALL_ENTRIES changes every entry.

    Returns:
        The changed suite; changed nodes cite their option.

    Raises:
        SuiteError: an option is not `KEY=VALUE`, not YAML, or names an unknown entry.
    """
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
    """A tree that holds only what one option sets."""
    entries = entries_of(root)
    if keys[0] in FOR_ALL_ENTRIES:
        block = FOR_ALL_ENTRIES[keys[0]]
        names = [name for name, (_, entry) in entries.items() if _has_block(entry, block)]
        if not names:
            raise SuiteError(f"{where}: no entry has a {block}")
        member = Member(where, _nest(keys, value, where))
        return _nest(("entries",), Node(where, dict.fromkeys(names, member)), where)
    if keys[0] == "entries" and len(keys) > 1 and keys[1] not in entries:
        raise SuiteError(f"{where}: entries '{keys[1]}' is unknown.{near(keys[1], entries)}")
    return _nest(keys, value, where)


def _has_block(entry: Node, key: str) -> bool:
    # Merged into an absent or null recipe, one key would make a recipe that lacks all others.
    return key in entry.members and isinstance(entry.members[key].node.value, dict)


def _nest(keys: tuple[str, ...], value: Node, where: Where) -> Node:
    for key in reversed(keys):
        value = Node(where, {key: Member(where, value)})
    return value
