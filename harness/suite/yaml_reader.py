"""Read a suite file: YAML 1.2 text to a tree of nodes that know their file and line.

The tree is built from the events of ruamel.yaml's parser, not from its round-trip mode. That mode decides the type
of a scalar itself (`2018-03-22` becomes a date, the key `1` a number) and builds the document before anything can
count how far its aliases expand.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from harness.core.errors import SuiteError
from harness.core.messages import control_character, cut, reason, short
from harness.system.reading import read_bytes

# Far above any real suite (the longest has 107 lines), low enough that a hostile file costs no memory.
MAX_BYTES = 1 << 20
MAX_NODES = 20_000
MAX_DEPTH = 40

Scalar: TypeAlias = str | int | float | bool | None

_INT = re.compile(r"[-+]?[0-9][0-9_]*|0o[0-7][0-7_]*|0x[0-9a-fA-F][0-9a-fA-F_]*")
_FLOAT = re.compile(r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_MAX_DIGITS = 80  # int() refuses more than 4,300 digits with an error of its own


class Where(NamedTuple):
    """A position to cite: a file and its line, or a command-line option (line 0)."""

    source: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


class Member(NamedTuple):
    """The position of a key, and its value."""

    where: Where
    node: Node


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A scalar, a list (tuple) or a mapping (dict), and its position. Aliases share one node."""

    where: Where
    value: Scalar | tuple[Node, ...] | dict[str, Member]

    @property
    def members(self) -> dict[str, Member]:
        """The keys of a mapping; empty for anything else."""
        return self.value if isinstance(self.value, dict) else {}


def plain(node: Node) -> Any:
    """The tree as dicts, lists and scalars, with every alias expanded."""
    if isinstance(node.value, dict):
        return {key: plain(member.node) for key, member in node.value.items()}
    if isinstance(node.value, tuple):
        return [plain(item) for item in node.value]
    return node.value


def read_yaml(path: Path) -> Node:
    """Read a file whose top level is a mapping; raise SuiteError if it cannot be read or holds something else."""
    source = str(path)
    try:
        raw = read_bytes(path, MAX_BYTES)
    except OSError as error:
        hint = "; give the path of a suite file in it" if path.is_dir() else ""
        raise SuiteError(f"{source}: cannot be read: {reason(error)}{hint}") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SuiteError(f"{source}:{line}: is not UTF-8 text") from None
    root = parse_yaml(text, source)
    if root is None or root.value is None:
        raise SuiteError(f"{source}: is empty")
    if not isinstance(root.value, dict):
        raise SuiteError(f"{root.where}: the top level must be a block of keys such as 'suite: NAME'")
    return root


def parse_yaml(text: str, source: str, *, numbered: bool = True) -> Node | None:
    """Parse one YAML document.

    Args:
        text: the document.
        source: the file or option to cite in errors.
        numbered: whether `source` has lines to cite.

    Returns:
        The root of the tree, or None if the text holds no document.

    Raises:
        SuiteError: one line that cites `source` and the line.
    """
    reader = _Reader(text, source, numbered)
    try:
        return reader.document()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = reader.where(mark.line) if mark else Where(source)
        problem = cut(str(error.problem or error.context or "cannot be parsed"), 160)
    except ReaderError as error:
        where = reader.where(text.count("\n", 0, error.position))
        code = error.character if isinstance(error.character, int) else ord(error.character)
        problem = f"the character U+{code:04X} is not allowed"
    except YAMLError as error:
        where, problem = Where(source), cut(str(error), 160)
    except (ValueError, OverflowError):
        # The parser turns escapes such as "\UFFFFFFFF" and long %YAML versions into numbers without a check.
        where, problem = Where(source), "an escape or a version is out of range"
    raise SuiteError(f"{where}: is not valid YAML: {problem}") from None


class _Reader:
    """Builds nodes by recursive descent over the parser's events; MAX_DEPTH bounds the recursion."""

    def __init__(self, text: str, source: str, numbered: bool) -> None:
        # Any: ruamel declares the attributes of an event on its subclasses only.
        # pure: otherwise ruamel uses its C parser where installed, which reads YAML 1.1 and words errors differently.
        self._events: Iterator[Any] = YAML(typ="safe", pure=True).parse(text)
        self._source, self._numbered = source, numbered
        # Anchor -> its node and the number of values in it; the node is None until it is complete.
        self._anchors: dict[str, tuple[Node | None, int]] = {}
        self._size = 0

    def where(self, line: int) -> Where:
        return Where(self._source, line + 1 if self._numbered else 0)

    def document(self) -> Node | None:
        root = None
        for event in self._events:
            if isinstance(event, DocumentStartEvent) and root is not None:
                where = self.where(event.start_mark.line)
                raise SuiteError(f"{where}: a second document ('---') starts here; a suite is one document")
            if isinstance(event, NodeEvent):
                root = self._node(event, depth=0)
        return root

    def _node(self, event: Any, depth: int, key: Where | None = None) -> Node:
        """The value that starts with `event`; `key` is the position of its key in a mapping."""
        where = self.where(event.start_mark.line)
        if isinstance(event, AliasEvent):
            return self._alias(event.anchor, where)
        size = self._size
        self._grow(1, where)
        is_scalar = isinstance(event, ScalarEvent)
        # `!` and `!!str` only force text. Other tags would build objects that JSON does not have.
        if event.tag is not None and not (is_scalar and event.tag in ("!", "tag:yaml.org,2002:str")):
            raise SuiteError(f"{where}: the tag '{short(str(event.tag))}' is not supported")
        if depth >= MAX_DEPTH and not is_scalar:
            raise SuiteError(f"{where}: is nested more than {MAX_DEPTH} levels deep")
        if event.anchor is not None:
            self._anchors[event.anchor] = (None, 0)
        value: Scalar | tuple[Node, ...] | dict[str, Member]
        if is_scalar:
            if key is not None and event.value == "" and not event.style:
                where = key  # the parser puts an omitted value at the start of the next key
            value = self._scalar(event, where)
        elif isinstance(event, SequenceStartEvent):
            value = tuple(self._node(item, depth + 1) for item in self._until(SequenceEndEvent))
        else:
            value = self._mapping(where, depth + 1)
        node = Node(where, value)
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, self._size - size)
        return node

    def _until(self, end: type[Event]) -> Iterator[Any]:
        for event in self._events:
            if isinstance(event, end):
                return
            yield event

    def _grow(self, count: int, where: Where) -> None:
        """Count values as if every alias were expanded, so that a small file cannot expand into a huge one."""
        self._size += count
        if self._size > MAX_NODES:
            raise SuiteError(f"{where}: the file expands to more than {MAX_NODES:,} values, the limit for a suite")

    def _alias(self, anchor: str, where: Where) -> Node:
        node, size = self._anchors.get(anchor, (None, -1))
        if node is None:
            problem = "is used inside itself" if size == 0 else "is not defined above this line"
            raise SuiteError(f"{where}: the alias '*{short(anchor)}' {problem}")
        self._grow(size, where)
        return node

    def _mapping(self, opened: Where, depth: int) -> dict[str, Member]:
        members: dict[str, Member] = {}
        merged: list[Node] = []
        for event in self._until(MappingEndEvent):
            where = self.where(event.start_mark.line)
            key = self._key(event, where)
            is_merge = key == "<<" and not event.style
            if key in members or (is_merge and merged):
                first = members[key].where if key in members else opened
                raise SuiteError(f"{where}: the key '{short(key)}' is given twice (first at line {first.line})")
            node = self._node(next(self._events), depth, where)
            if not is_merge:
                members[key] = Member(where, node)
                continue
            parts = node.value if isinstance(node.value, tuple) else (node,)
            if not all(isinstance(part.value, dict) for part in parts):
                raise SuiteError(f"{where}: '<<' takes an alias of a block, or a list of them")
            merged.extend(parts)
        for part in merged:
            # As the YAML merge key defines: explicit keys win over merged ones, an earlier block over a later one.
            members = {**part.members, **members}
        return members

    def _key(self, event: Event, where: Where) -> str:
        if not isinstance(event, ScalarEvent):
            kind = "an alias" if isinstance(event, AliasEvent) else "a list or a block"
            raise SuiteError(f"{where}: a key must be one word or text, not {kind}")
        self._grow(1, where)
        return self._text(event, where)

    def _scalar(self, event: ScalarEvent, where: Where) -> Scalar:
        text = self._text(event, where)
        if event.style or event.tag is not None:
            return text
        try:
            return resolve_scalar(text)
        except ValueError as error:
            raise SuiteError(f"{where}: {error}") from None

    def _text(self, event: ScalarEvent, where: Where) -> str:
        text: str = event.value
        # Escapes such as "\e" and "\ud800" give them, and titles reach terminals and documents.
        if code := control_character(text):
            raise SuiteError(f"{where}: holds the control character {code}; use plain text on one line")
        return text


def resolve_scalar(text: str) -> Scalar:
    """The value of an unquoted scalar in YAML 1.2's core schema: `2e-3` is a number, `no` is text, `010` is ten.

    `_` may group digits, as ruamel.yaml allows. Raises ValueError for infinity, NaN and a number beyond 64 bits.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not a finite number")
    digits = text.replace("_", "")
    if _INT.fullmatch(text):
        base = {"0o": 8, "0x": 16}.get(digits[:2], 10)
        number = int(digits, base) if len(digits) <= _MAX_DIGITS else None
        if number is None or not -(1 << 63) <= number < 1 << 63:
            raise ValueError(f"the number {short(text)} is out of range")
        return number
    if _FLOAT.fullmatch(text):
        value = float(digits)
        # float() reads 1e999 as infinity without an error.
        if math.isinf(value):
            raise ValueError(f"the number {short(text)} is out of range")
        return value
    return text
