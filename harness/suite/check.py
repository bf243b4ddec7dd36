"""Check a node against a type: the typed value, or a clear message with position, dotted path and near name."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from types import UnionType
from typing import Any, NamedTuple, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from harness.core.errors import SuiteError
from harness.core.messages import cut, near, sentence, short
from harness.suite.yaml_reader import Member, Node, Where, plain

T = TypeVar("T")
Keys: TypeAlias = tuple[str | int, ...]


class Problem(NamedTuple):
    """One thing wrong with a value. A misspelt key is both unknown and missing, so missing keys are reported last."""

    is_missing: bool
    where: Where
    text: str


def refusal(where: Where, text: str) -> SuiteError:
    return SuiteError(f"{where}: {cut(text, 500)}")


def unknown(where: Where, path: str, name: str, known: Iterable[str]) -> SuiteError:
    return refusal(where, f"{cut(path, 100)} '{short(name)}' is unknown.{near(name, known)}")


def check(node: Node, type_: type[T], path: Keys, under: Where | None = None) -> T:
    """Convert a node to a type, strictly: text is not a number, true is not 1, unknown keys are refused.

    As in JSON, a whole number is accepted for a float and a list for a tuple.

    Args:
        node: the value to convert.
        type_: a dataclass, or any type that pydantic can validate.
        path: keys from the top of the suite to `node`.
        under: position of the node's key, if it has one.

    Returns:
        The value.

    Raises:
        SuiteError: the first problem in the file's order, and the number of the others.
    """
    # By way of JSON: pydantic's strict mode accepts a list for a tuple only there.
    text = json.dumps(plain(node))
    try:
        value: T = _adapter(type_).validate_json(text, strict=True)
        return value
    except ValidationError as error:
        findings = error.errors(include_url=False)
    problems = {_explained(finding, node, type_, path, under or node.where): None for finding in findings}
    first = min(problems, key=lambda problem: (problem.is_missing, problem.where.line))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    # Outside the except block, so that no traceback chains pydantic's error to this one.
    raise refusal(first.where, first.text + more)


# Building the validator of a large type takes longer than most uses of it.
_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


def dotted(path: Keys) -> str:
    """A path as text: `entries.awd-lstm.recipe.decay_at[1]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _explained(finding: ErrorDetails, node: Node, type_: Any, path: Keys, under: Where) -> Problem:
    """One of pydantic's findings, in our own words where they say more than pydantic's."""
    kind, value, context = finding["type"], finding["input"], finding.get("ctx", {})
    # "[key]" marks a problem with a key of a mapping; the part before it is that key.
    loc: Keys = tuple(part for part in finding["loc"] if part != "[key]")
    full, owner = dotted((*path, *loc)), dotted((*path, *loc[:-1]))
    where = locate(node, loc, under)
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        text = f"{owner} '{loc[-1]}'" if owner else f"the key '{loc[-1]}'"
        text = f"{text} is unknown.{near(str(loc[-1]), _fields(type_, loc[:-1]))}"
    elif kind == "missing" and isinstance(loc[-1], int):  # an item of a tuple, not a key
        text = f"{owner} must hold more values, got {len(value)}"
    elif kind == "missing":
        return Problem(True, where, f"{full} is missing")
    elif kind == "literal_error" and isinstance(value, str):
        known = re.findall(r"'([^']*)'", context["expected"])
        text = f"{full} '{value}' is unknown.{near(value, known)}"
    elif kind == "literal_error":
        text = f"{full} must be one of {context['expected']}"
    elif kind == "value_error":
        where, text = cite_field(str(context["error"]), node, (*path, *loc), loc, where)
    else:
        text = sentence(finding, full or "the top level")
    return Problem(False, where, text)


def cite_field(message: str, node: Node, full: Keys, loc: Keys, where: Where) -> tuple[Where, str]:
    """Position and text of a config's own ValueError, whose first word names a field (`lr`, `dropout.input`).

    Args:
        message: the ValueError's text.
        node: the root that `loc` starts from.
        full: path of the config from the top of the suite.
        loc: path of the config from `node`.
        where: the position to cite if the file does not give the field.

    Returns:
        The position to cite, and the message with the field's full path.
    """
    first, _, rest = message.partition(" ")
    name = first.rpartition(".")[2]
    block: Node | None = node
    for part in loc:
        member = _child(block, part) if block is not None else None
        block = member.node if member is not None else None
    if block is not None and name in block.members:
        return _position(block.members[name]), f"{dotted((*full, name))} {rest}"
    return where, f"{dotted(full)}: {message}" if full else message


def locate(node: Node, path: Keys, under: Where) -> Where:
    """Find the position of a key or item.

    Args:
        node: the tree to search.
        path: keys and indices from `node`.
        under: the position to cite if no part of `path` exists.

    Returns:
        The position of the deepest part of `path` that exists.
    """
    for part in path:
        member = _child(node, part)
        if member is None:
            break
        node, under = member.node, _position(member)
    return under


def _child(node: Node, part: str | int) -> Member | None:
    if isinstance(part, str):
        return node.members.get(part)
    if isinstance(node.value, tuple) and part < len(node.value):
        return Member(node.value[part].where, node.value[part])
    return None


def _position(member: Member) -> Where:
    """The key of a block or list, which may start lines below it; a scalar itself."""
    return member.where if isinstance(member.node.value, dict | tuple) else member.node.where


def _fields(type_: Any, path: Keys) -> list[str]:
    """Names of the fields of the dataclass at `path` inside `type_`."""
    for part in path:
        type_ = _dataclass_in(type_)
        if type_ is None:
            return []
        # get_type_hints, because `fields()` gives postponed annotations as text. [-1]: the type of a mapping's values.
        type_ = get_type_hints(type_).get(str(part)) if dataclasses.is_dataclass(type_) else get_args(type_)[-1]
    type_ = _dataclass_in(type_)
    return [each.name for each in dataclasses.fields(type_)] if dataclasses.is_dataclass(type_) else []


def _dataclass_in(type_: Any) -> Any:
    """The dataclass or mapping type among the members of an optional type."""
    # Before Python 3.14, `X | None` and `Optional[X]` have different origins.
    members: Sequence[Any] = get_args(type_) if get_origin(type_) in (Union, UnionType) else (type_,)
    for each in members:
        if dataclasses.is_dataclass(each) or get_origin(each) in (dict, Mapping):
            return each
    return None
