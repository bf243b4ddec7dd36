"""A pickle read as data, by a stack machine of its own.

Python's unpicklers are made to call what a file names. A restricted `find_class` still hands out callables, and what
is called with which arguments stays the file's choice; the C one also allocates what a length or a memo index asks
for before it looks whether the bytes are there. Here a name becomes a record, a call becomes a record, and there is
no code that could call anything. Every length is held against the bytes that are left, the opcodes are counted, dicts
are lists of pairs (nothing is hashed), and nothing recurses, so that time and memory grow with the file alone.

The opcodes are those that protocol 2 of both Pythons writes for a checkpoint, and those of protocol 4 by which other
files name things, so that what is refused is refused by its name.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from typing import Any

from harness.checkpoints.awd_lstm_lm import names
from harness.checkpoints.awd_lstm_lm.values import MalformedError, Mapping, Record, Tensor

MAX_OPCODES = 250_000
"""A 6-layer model with Adam's state takes some 10,000."""

MAX_NAME = 256

PersistentId = Callable[[Any], Any]
"""What a persistent id stands for. Raises MalformedError for one that is not known."""

_MARK = object()
_UNPACK = {size: struct.Struct(f"<{letter}") for size, letter in {1: "B", 2: "H", 4: "I", 8: "Q"}.items()}


def read(data: bytes, start: int, persistent: PersistentId) -> tuple[Any, int]:
    """The value of the pickle that begins at `start`, and the position behind its end.

    Raises MalformedError for whatever no official checkpoint holds.
    """
    machine = _Machine(data, start, persistent)
    try:
        return machine.run(), machine.position
    except IndexError:
        raise MalformedError(f"the pickle at byte {start:,} takes more from its stack than it put there") from None


class _Machine:
    def __init__(self, data: bytes, start: int, persistent: PersistentId) -> None:
        self.data, self.position, self.persistent = data, start, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(MAX_OPCODES):
            code = self.take(1)
            if code == b".":
                value = self.pop()
                if self.stack:
                    raise MalformedError("the pickle ends with values left over")
                return value
            handler = _HANDLERS.get(code)
            if handler is None:
                raise MalformedError(
                    f"{_opcode_name(code)} at byte {self.position - 1:,} is none that an official checkpoint holds"
                )
            handler(self)
        raise MalformedError(f"the pickle has more than {MAX_OPCODES:,} opcodes")

    def take(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self.data):
            raise MalformedError(
                f"the pickle wants {size:,} bytes at byte {self.position:,}, past its end: "
                "it is truncated, or no checkpoint"
            )
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def number(self, size: int) -> int:
        value: int = _UNPACK[size].unpack(self.take(size))[0]
        return value

    def text(self, size: int) -> str:
        try:
            return self.take(size).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise MalformedError(f"the text before byte {self.position:,} is not UTF-8") from None

    def line(self) -> str:
        end = self.data.find(b"\n", self.position, self.position + MAX_NAME)
        if end < 0:
            raise MalformedError(f"the name at byte {self.position:,} does not end")
        line = self.text(end - self.position)
        self.position = end + 1
        return line

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise IndexError
        return value

    def top(self) -> Any:
        if self.stack[-1] is _MARK:
            raise IndexError
        return self.stack[-1]

    def to_mark(self) -> list[Any]:
        """What was pushed since the last mark, which goes too."""
        items: list[Any] = []
        while (value := self.stack.pop()) is not _MARK:
            items.append(value)
        items.reverse()
        return items

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def put(self, slot: int) -> None:
        if slot > MAX_OPCODES:
            raise MalformedError(f"memo slot {slot:,} is beyond any that a checkpoint uses")
        self.memo[slot] = self.top()

    def get(self, slot: int) -> None:
        if slot not in self.memo:
            raise MalformedError(f"memo slot {slot:,} is read before it is written")
        self.push(self.memo[slot])

    def tuple_of(self, size: int) -> None:
        items = [self.pop() for _ in range(size)]
        self.push(tuple(reversed(items)))

    def append(self, items: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, list):
            raise MalformedError("it appends to something that is not a list")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, Mapping) or len(items) % 2:
            raise MalformedError("it sets items of something that is not a dict")
        target.pairs.extend(zip(items[::2], items[1::2], strict=True))

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def build(self) -> None:
        state = self.pop()
        target = self.top()
        if isinstance(target, Record):
            if target.state is not None:
                raise MalformedError(f"it gives a {target.name.full} its state twice")
            target.state = state
        elif not isinstance(target, Tensor | Mapping):
            raise MalformedError("it gives a state to something that has none")
        # A Variable of torch 0.3 is built with flags only; what it holds stands in its call.

    def long(self) -> None:
        self.push(int.from_bytes(self.take(self.number(1)), "little", signed=True))

    def signed(self) -> None:
        self.push(int.from_bytes(self.take(4), "little", signed=True))

    def float(self) -> None:
        self.push(struct.unpack(">d", self.take(8))[0])

    def protocol(self) -> None:
        version = self.number(1)
        if version > 5:
            raise MalformedError(f"pickle protocol {version} is unknown")

    def frame(self) -> None:
        """How much to read ahead, which is all here already."""
        self.take(8)

    def global_name(self) -> None:
        module = self.line()
        self.push(names.allowed(module, self.line()))

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise MalformedError("it names something by values that are not text")
        self.push(names.allowed(module, name))

    def reduce(self) -> None:
        args, callee = self.pop(), self.pop()
        self.push(names.called(callee, args))

    def new_object(self) -> None:
        args, cls = self.pop(), self.pop()
        self.push(names.instance(cls, args))


def _opcode_name(code: bytes) -> str:
    names_of = (opcode.name for opcode in pickletools.opcodes if opcode.code == code.decode("latin-1"))
    return f"the opcode {name}" if (name := next(names_of, None)) else f"the byte 0x{code.hex()}"


def _byte_string(machine: _Machine, size: int) -> None:
    """Text as Python 2 wrote it."""
    machine.push(machine.take(size).decode("latin-1"))


_HANDLERS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": _Machine.protocol,
    b"\x95": _Machine.frame,
    b"(": lambda m: m.push(_MARK),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"K": lambda m: m.push(m.number(1)),
    b"M": lambda m: m.push(m.number(2)),
    b"J": _Machine.signed,
    b"\x8a": _Machine.long,
    b"G": _Machine.float,
    b"X": lambda m: m.push(m.text(m.number(4))),
    b"\x8c": lambda m: m.push(m.text(m.number(1))),
    b"U": lambda m: _byte_string(m, m.number(1)),
    b"T": lambda m: _byte_string(m, m.number(4)),
    b")": lambda m: m.push(()),
    b"]": lambda m: m.push([]),
    b"}": lambda m: m.push(Mapping()),
    b"t": lambda m: m.push(tuple(m.to_mark())),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"a": lambda m: m.append([m.pop()]),
    b"e": lambda m: m.append(m.to_mark()),
    b"s": _Machine.set_item,
    b"u": lambda m: m.set_items(m.to_mark()),
    b"q": lambda m: m.put(m.number(1)),
    b"r": lambda m: m.put(m.number(4)),
    b"\x94": lambda m: m.put(len(m.memo)),
    b"h": lambda m: m.get(m.number(1)),
    b"j": lambda m: m.get(m.number(4)),
    b"c": _Machine.global_name,
    b"\x93": _Machine.stack_global,
    b"R": _Machine.reduce,
    b"\x81": _Machine.new_object,
    b"b": _Machine.build,
    b"Q": lambda m: m.push(m.persistent(m.pop())),
}
"""Opcode -> what it does; any other is refused."""
