"""A node against a type: the value, or every problem with its place, path and words."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import UnionType
from typing import Any, TypeAlias, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from harness.core.errors import SuiteError
from harness.core.messages import near, one_line, sentence
from harness.suite.yaml.nodes import Node, Where, plain

Keys: TypeAlias = tuple[str | int, ...]


@dataclass(slots=True)
class Problems:
    """Everything wrong with one reading of a suite, to be told as one line."""

    found: list[tuple[bool, Where, str]] = field(default_factory=list)

    def add(self, where: Where, text: str, *, is_missing: bool = False) -> None:
        """is_missing: a key that is not there; told last, since a misspelt one is also an unknown one."""
        self.found.append((is_missing, where, text))

    def raise_if_any(self, note: str = "") -> None:
        """Raise SuiteError with the first problem, in the file's order, missing keys last, and the others' number."""
        if not self.found:
            return
        found = list(dict.fromkeys(self.found))
        _, where, text = min(found, key=lambda each: (each[0], each[1].line))
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise SuiteError(f"{where}: {one_line(text)}{note}{more}")

    def unknown(self, where: Where, path: str, name: str, known: Iterable[str]) -> None:
        self.add(where, f"{path} '{name}' is unknown.{near(name, known)}")


def check(node: Node, type_: Any, path: Keys, problems: Problems, *, under: Where | None = None) -> Any:
    """The node's value as `type_`, strictly: no text for a number, no true for 1, no unknown key.

    None where it does not fit; what is wrong is then in `problems`. A number without a fraction will do for
    a float, and a list for a tuple, as in JSON. under: where the node's key stands, if it has one.
    """
    text = json.dumps(plain(node))
    try:
        return _adapter(type_).validate_json(text, strict=True)
    except ValidationError as error:
        for finding in error.errors(include_url=False):
            _explain(finding, node, type_, path, problems, under or node.where)
        return None


@cache
def _adapter(type_: Any) -> TypeAdapter[Any]:
    return TypeAdapter(type_)


def dotted(path: Keys) -> str:
    """`entries.awd-lstm.recipe.decay_at[1]`"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _explain(finding: Mapping[str, Any], node: Node, type_: Any, path: Keys, problems: Problems, under: Where) -> None:
    kind = finding["type"]
    loc: Keys = tuple(part for part in finding["loc"] if part != "[key]")
    full = dotted((*path, *loc))
    where = locate(node, loc, under)
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        owner = dotted((*path, *loc[:-1]))
        at = f"{owner} '{loc[-1]}'" if owner else f"the key '{loc[-1]}'"
        problems.add(where, f"{at} is unknown.{near(str(loc[-1]), _fields(type_, loc[:-1]))}")
    elif kind == "missing" and isinstance(loc[-1], int):
        count = len(finding["input"])
        problems.add(where, f"{dotted((*path, *loc[:-1]))} must hold more values, got {count}")
    elif kind == "missing":
        problems.add(where, f"{full} is missing", is_missing=True)
    elif kind == "literal_error" and isinstance(finding["input"], str):
        problems.unknown(where, full, finding["input"], re.findall(r"'([^']*)'", finding["ctx"]["expected"]))
    elif kind == "literal_error":
        problems.add(where, f"{full} must be one of {finding['ctx']['expected']}")
    elif kind == "value_error":
        problems.add(*own_words(str(finding["ctx"]["error"]), node, (*path, *loc), loc, where))
    else:
        problems.add(where, sentence(finding, full or "the top level"))


def own_words(message: str, node: Node, full: Keys, loc: Keys, where: Where) -> tuple[Where, str]:
    """A config's own ValueError: cite the field its first word names (`lr`, `dropout.input`), if the block has it."""
    first, _, rest = message.partition(" ")
    name = first.rpartition(".")[2]
    block = _walk(node, loc)
    if block is not None and name in block.members:
        member = block.members[name]
        return _place(member.where, member.node), f"{dotted((*full, name))} {rest}"
    return where, f"{dotted(full)}: {message}" if full else message


def locate(node: Node, path: Keys, under: Where) -> Where:
    """Where the deepest existing part of `path` stands: a scalar itself, or the key of a block."""
    where = under
    for part in path:
        if isinstance(node.value, dict) and part in node.value:
            member = node.value[str(part)]
            node, where = member.node, _place(member.where, member.node)
        elif isinstance(node.value, tuple) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            where = node.where
        else:
            break
    return where


def _place(key: Where, node: Node) -> Where:
    return key if isinstance(node.value, dict | tuple) else node.where


def _walk(node: Node, path: Keys) -> Node | None:
    for part in path:
        if isinstance(node.value, dict) and part in node.value:
            node = node.value[str(part)].node
        elif isinstance(node.value, tuple) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        else:
            return None
    return node


def _fields(type_: Any, path: Keys) -> list[str]:
    """Names of the fields of the dataclass that stands at `path` inside `type_`."""
    for part in path:
        type_ = _dataclass_in(type_)
        if type_ is None:
            return []
        type_ = get_type_hints(type_).get(str(part)) if dataclasses.is_dataclass(type_) else get_args(type_)[-1]
    type_ = _dataclass_in(type_)
    return [each.name for each in dataclasses.fields(type_)] if dataclasses.is_dataclass(type_) else []


def _dataclass_in(type_: Any) -> Any:
    """The dataclass or mapping type among the members of an optional type."""
    members: Sequence[Any] = get_args(type_) if get_origin(type_) in (Union, UnionType) else (type_,)
    for each in members:
        if dataclasses.is_dataclass(each) or get_origin(each) in (dict, Mapping):
            return each
    return None
