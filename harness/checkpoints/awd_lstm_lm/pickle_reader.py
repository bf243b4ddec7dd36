"""Read the pickle of an official checkpoint as data. Nothing in the file is called or imported.

`torch.load(weights_only=True)` with inert classes on its allow-list was tried first, with torch 2.13. It reads the zip
format with equal tensors, but is not used:

- It cannot read files of 2018. These store each class with its source text under the persistent id `module`, and the
  restricted unpickler accepts persistent ids of storages only. No allow-list changes that, nor does a newer torch.
- Its built-in allow-list cannot be shortened. Calls of `bytearray` and `torch.Tensor` allocate what the file asks for:
  a file of 2 kB took 800 MB.
- It hashes dict keys and prints what it refuses to call. A tuple of 300 bytes, doubled sixty times by reference, never
  returned as a key and took all memory as a callee.
- It unpacks compressed members of a zip file (260 kB became 256 MB), loads members whose checksum is wrong, and
  allocates a storage of the legacy format at its declared size before it looks at the file's.

So `pickletools.genops` of the standard library cuts the file into opcodes and checks their lengths, and a small stack
machine here builds values: names become `Name`, calls and instances become inert records, dicts become lists of pairs
and are never hashed, nothing recurses, and opcodes are counted. Time and memory grow with the file alone.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from typing import Any

from harness.checkpoints.awd_lstm_lm.allow_list import (
    CALLS,
    CLASSES,
    FACTORIES,
    STORAGES,
    MalformedError,
    Name,
    Pairs,
    Record,
    Tensor,
    shown,
)

# A 6-layer model with the state of Adam takes about 10,000.
MAX_OPCODES = 250_000

PersistentId = Callable[[Any], Any]


def read(file: io.BytesIO, persistent_id: PersistentId) -> Any:
    """Read one pickle.

    Args:
        file: positioned at the start of the pickle; afterwards, behind its end.
        persistent_id: maps a persistent id to a value, or raises MalformedError.

    Returns:
        Plain values, and Name, Pairs, Record and Tensor.

    Raises:
        MalformedError: the pickle is damaged or holds anything that no official checkpoint does.
    """
    machine = _Machine(persistent_id)
    start = file.tell()
    try:
        for number, (opcode, argument, position) in enumerate(pickletools.genops(file)):
            if number >= MAX_OPCODES:
                raise MalformedError(f"the pickle has more than {MAX_OPCODES:,} opcodes")
            handler = _OPCODES.get(opcode.name)
            if handler is None:
                raise MalformedError(f"the opcode {opcode.name} at byte {position:,} is in no official checkpoint")
            handler(machine, argument)
    except IndexError:
        raise MalformedError(f"the pickle at byte {start:,} takes more from its stack than it put there") from None
    except (ValueError, Warning) as error:
        # An invalid escape in a name is a DeprecationWarning, which `python -W error` raises.
        raise MalformedError(f"the pickle at byte {start:,} is truncated or damaged: {shown(str(error))}") from None
    if len(machine.stack) != 1:
        raise MalformedError("the pickle does not end with one value")
    return machine.pop()


_MARK = object()


class _Machine:
    """The stack and memo of one pickle."""

    def __init__(self, persistent_id: PersistentId) -> None:
        self.persistent_id = persistent_id
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise IndexError
        return value

    def top(self) -> Any:
        if self.stack[-1] is _MARK:
            raise IndexError
        return self.stack[-1]

    def pop_to_mark(self) -> list[Any]:
        items: list[Any] = []
        while (value := self.stack.pop()) is not _MARK:
            items.append(value)
        return items[::-1]

    def put(self, slot: int) -> None:
        if slot > MAX_OPCODES:
            raise MalformedError(f"memo slot {slot:,} is beyond any that a checkpoint uses")
        self.memo[slot] = self.top()

    def get(self, slot: int) -> None:
        if slot not in self.memo:
            raise MalformedError(f"memo slot {slot:,} is read before it is written")
        self.push(self.memo[slot])

    def push_tuple(self, size: int) -> None:
        self.push(tuple([self.pop() for _ in range(size)][::-1]))

    def append(self, items: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, list):
            raise MalformedError("it appends to something that is not a list")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, Pairs) or len(items) % 2:
            raise MalformedError("it sets items of something that is not a dict")
        target.pairs.extend(zip(items[::2], items[1::2], strict=True))

    def push_name(self, module: Any, name: Any) -> None:
        if not isinstance(name, str) or not isinstance(module, str):
            raise MalformedError("it names something by values that are not text")
        # Python 2, and protocol 2 of Python 3, write the builtins under their old module.
        path = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if path not in CLASSES and path not in STORAGES and path not in FACTORIES and path not in CALLS:
            raise MalformedError(f"it names {shown(path)}, which no official checkpoint uses")
        self.push(Name(path))

    def call(self) -> None:
        """REDUCE: replace a name and its arguments by the value of the call."""
        args, callee = self.pop(), self.pop()
        if not isinstance(callee, Name):
            raise MalformedError("it calls something that is not a name, as no official checkpoint does")
        if callee.path not in CALLS or not isinstance(args, tuple):
            raise MalformedError(f"it calls {callee.path} as no official checkpoint does")
        result = CALLS[callee.path](args)
        if result is None:
            raise MalformedError(f"it calls {callee.path} with arguments that no official checkpoint has")
        self.push(result)

    def instantiate(self) -> None:
        """NEWOBJ: replace a class and its arguments by a record without state."""
        args, cls = self.pop(), self.pop()
        if not isinstance(cls, Name) or cls.path not in CLASSES or args != ():
            path = cls.path if isinstance(cls, Name) else "something that is not a name"
            raise MalformedError(f"it makes an instance of {path} as no official checkpoint does")
        self.push(Record(cls.path))

    def build(self) -> None:
        """BUILD: give the record on top of the stack its state."""
        state, target = self.pop(), self.top()
        if isinstance(target, Record):
            if target.state is not None:
                raise MalformedError(f"it gives a {target.path} its state twice")
            target.state = state
        elif not isinstance(target, Tensor | Pairs):
            # The state of a tensor (a Variable of torch 0.3) or of an OrderedDict holds nothing of use.
            raise MalformedError("it gives a state to something that has none")

    def check_protocol(self, version: int) -> None:
        if version > 5:
            raise MalformedError(f"pickle protocol {version} is unknown")


# The opcodes that protocol 2 of both Pythons writes for a checkpoint, and those of protocol 4 for the same values.
_OPCODES: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.check_protocol,
    "FRAME": lambda machine, _: None,
    "STOP": lambda machine, _: None,
    "MARK": lambda machine, _: machine.push(_MARK),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"), _Machine.push),
    # The strings of Python 2, (SHORT_)BINSTRING, are decoded as Latin-1 by pickletools.
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING"), _Machine.push),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push(Pairs()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine, _: machine.push_tuple(1),
    "TUPLE2": lambda machine, _: machine.push_tuple(2),
    "TUPLE3": lambda machine, _: machine.push_tuple(3),
    "APPEND": lambda machine, _: machine.append([machine.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.pop_to_mark()),
    "SETITEM": lambda machine, _: machine.set_items([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine.put),
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.get),
    "GLOBAL": lambda machine, argument: machine.push_name(*argument.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.push_name(*[machine.pop(), machine.pop()][::-1]),
    "REDUCE": lambda machine, _: machine.call(),
    "NEWOBJ": lambda machine, _: machine.instantiate(),
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.push(machine.persistent_id(machine.pop())),
}
