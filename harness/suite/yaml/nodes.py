"""YAML 1.2 text into a tree that remembers where every key and value stood.

The tree is built from parser events, never by a YAML constructor: nothing in a file can create an
object, aliases share one node instead of copying it, and the size a file would expand to is counted
while it is read, so that a small file cannot ask for much memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from harness.core.errors import SuiteError
from harness.core.messages import one_line, short
from harness.suite.yaml.scalars import Scalar, resolve_scalar

MAX_BYTES = 1 << 20
MAX_NODES = 20_000
MAX_DEPTH = 40


class Where(NamedTuple):
    """A place a user can find: a file with its line, or a command-line option (line 0)."""

    source: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


class Member(NamedTuple):
    """The value of one key, and where the key stands."""

    where: Where
    node: Node


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A scalar, a list (tuple) or a mapping (dict), and where it stands. Shared by its aliases: never changed."""

    where: Where
    value: Scalar | tuple[Node, ...] | dict[str, Member]

    @property
    def members(self) -> dict[str, Member]:
        """Keys of a mapping; of anything else, none."""
        return self.value if isinstance(self.value, dict) else {}


def plain(node: Node) -> Any:
    """The tree as ordinary dicts, lists and scalars, with every alias expanded."""
    if isinstance(node.value, dict):
        return {key: plain(member.node) for key, member in node.value.items()}
    if isinstance(node.value, tuple):
        return [plain(item) for item in node.value]
    return node.value


def read_yaml(path: Path) -> Node:
    """Read a file of at most 1 MiB whose top level is a mapping. Raises SuiteError, one line, otherwise."""
    source = str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SuiteError(f"{source}: there is no such file") from None
    except IsADirectoryError:
        raise SuiteError(f"{source}: is a folder; give the path of a suite file in it") from None
    except OSError as error:
        raise SuiteError(f"{source}: cannot be read: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise SuiteError(f"{source}: is larger than {MAX_BYTES:,} bytes, which no suite needs")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SuiteError(f"{source}:{line}: is not UTF-8 text") from None
    root = parse_yaml(text, source)
    if root is None or root.value is None:
        raise SuiteError(f"{source}: is empty")
    if not isinstance(root.value, dict):
        kind = "a list" if isinstance(root.value, tuple) else "a single value"
        raise SuiteError(f"{root.where}: the top level is {kind}; a suite is a block of keys such as 'suite: NAME'")
    return root


def parse_yaml(text: str, source: str, *, numbered: bool = True) -> Node | None:
    """Parse one document; None where there is none. numbered: whether `source` has lines to cite."""
    builder = _Builder(source, numbered)
    try:
        for event in _events(text):
            builder.take(event)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = builder.where(mark.line) if mark else Where(source)
        problem = one_line(str(error.problem or error.context or "cannot be parsed"))
        raise SuiteError(f"{where}: is not valid YAML: {problem}") from None
    except ReaderError as error:
        where = builder.where(text.count("\n", 0, error.position))
        raise SuiteError(
            f"{where}: is not valid YAML: the character U+{_code(error.character):04X} may not stand in it"
        ) from None
    except YAMLError as error:
        raise SuiteError(f"{source}: is not valid YAML: {one_line(str(error))[:160]}") from None
    except (ValueError, OverflowError):
        # The parser itself turns escapes such as "\UFFFFFFFF" and long %YAML versions into numbers.
        raise SuiteError(f"{source}: is not valid YAML: an escape or a version is out of range") from None
    return builder.root


def _events(text: str) -> Iterator[Event]:
    yield from YAML(typ="safe", pure=True).parse(text)


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end is still to come."""

    where: Where
    anchor: str | None
    is_mapping: bool
    size_before: int
    items: list[Node] = field(default_factory=list)
    members: dict[str, Member] = field(default_factory=dict)
    merges: list[Node] = field(default_factory=list)
    key: str | None = None
    key_is_merge: bool = False
    key_where: Where = field(default=Where(""))


class _Builder:
    """Parser events in, one tree out."""

    def __init__(self, source: str, numbered: bool) -> None:
        self.root: Node | None = None
        self._source, self._numbered = source, numbered
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Node | None, int]] = {}  # None while the node is still open
        self._size = 0
        self._documents = 0

    def where(self, line: int) -> Where:
        return Where(self._source, line + 1 if self._numbered else 0)

    def take(self, event: Event) -> None:
        if isinstance(event, DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise SuiteError(f"{self._at(event)}: a second document ('---') starts here; a suite is one document")
        elif isinstance(event, MappingStartEvent | SequenceStartEvent):
            self._open(event)
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            self._close()
        elif isinstance(event, ScalarEvent):
            self._scalar(event)
        elif isinstance(event, AliasEvent):
            self._alias(event)

    def _at(self, event: Event) -> Where:
        return self.where(event.start_mark.line)

    def _grow(self, count: int, where: Where) -> None:
        self._size += count
        if self._size > MAX_NODES:
            raise SuiteError(f"{where}: the file expands to more than {MAX_NODES:,} values; no suite needs that many")

    def _open(self, event: MappingStartEvent | SequenceStartEvent) -> None:
        where = self._at(event)
        if self._stack and self._stack[-1].is_mapping and self._stack[-1].key is None:
            raise SuiteError(f"{where}: a key must be one word or text, not a list or a block")
        if event.tag is not None:
            raise SuiteError(f"{where}: the tag '{short(str(event.tag))}' is not supported")
        if len(self._stack) >= MAX_DEPTH:
            raise SuiteError(f"{where}: is nested more than {MAX_DEPTH} levels deep")
        opened = _Open(where, event.anchor, isinstance(event, MappingStartEvent), self._size)
        self._grow(1, where)
        if event.anchor is not None:
            self._anchors[event.anchor] = (None, 0)
        self._stack.append(opened)

    def _close(self) -> None:
        done = self._stack.pop()
        value: tuple[Node, ...] | dict[str, Member] = tuple(done.items)
        if done.is_mapping:
            value = done.members
            for merged in done.merges:
                value = {**merged.members, **value}
        node = Node(done.where, value)
        if done.anchor is not None:
            self._anchors[done.anchor] = (node, self._size - done.size_before)
        self._add(node)

    def _scalar(self, event: ScalarEvent) -> None:
        where = self._at(event)
        self._grow(1, where)
        if not event.value.isascii() and any("\ud800" <= c <= "\udfff" for c in event.value):
            raise SuiteError(f"{where}: holds half of a surrogate pair, which is no character")
        is_plain = event.style is None or event.style == ""
        top = self._stack[-1] if self._stack else None
        if top is not None and top.is_mapping and top.key is None:
            self._key(top, event.value, where, is_merge=is_plain and event.value == "<<")
            return
        if event.value == "" and is_plain and top is not None and top.is_mapping:
            where = top.key_where  # the parser places a missing value where the next key begins
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            raise SuiteError(f"{where}: the tag '{short(str(event.tag))}' is not supported")
        value: Scalar = event.value
        if is_plain and event.tag is None:
            try:
                value = resolve_scalar(event.value)
            except ValueError as error:
                raise SuiteError(f"{where}: {error}") from None
        node = Node(where, value)
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, 1)
        self._add(node)

    def _key(self, top: _Open, key: str, where: Where, *, is_merge: bool) -> None:
        if key in top.members or (is_merge and top.merges):
            first = top.members[key].where if key in top.members else top.where
            raise SuiteError(f"{where}: the key '{short(key)}' stands here twice (first at line {first.line})")
        top.key, top.key_where, top.key_is_merge = key, where, is_merge

    def _alias(self, event: AliasEvent) -> None:
        where = self._at(event)
        if self._stack and self._stack[-1].is_mapping and self._stack[-1].key is None:
            raise SuiteError(f"{where}: a key must be one word or text, not an alias")
        node, size = self._anchors.get(event.anchor, (None, -1))
        if node is None:
            what = "is used inside itself" if size == 0 else "is not defined above this line"
            raise SuiteError(f"{where}: the alias '*{short(event.anchor)}' {what}")
        self._grow(size, where)
        self._add(node)

    def _add(self, node: Node) -> None:
        if not self._stack:
            self.root = node
            return
        top = self._stack[-1]
        if not top.is_mapping:
            top.items.append(node)
            return
        if top.key is None:
            raise AssertionError("the parser gives a key before its value")
        if top.key_is_merge:
            parts = node.value if isinstance(node.value, tuple) else (node,)
            if not all(isinstance(part.value, dict) for part in parts):
                raise SuiteError(f"{top.key_where}: '<<' takes an alias of a block, or a list of them")
            top.merges.extend(parts)
        else:
            top.members[top.key] = Member(top.key_where, node)
        top.key = None


def _code(character: str | int) -> int:
    return character if isinstance(character, int) else ord(character)
