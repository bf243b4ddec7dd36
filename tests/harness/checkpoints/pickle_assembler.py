"""Pickles put together opcode by opcode: what no pickler would write, and what torch wrote in 2018."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

LEGACY_HEAD = (
    0x1950A86A20F9469CFC6C,
    1001,
    {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}},
)


@dataclass(frozen=True)
class Global:
    module: str
    name: str


@dataclass(frozen=True)
class Call:
    callee: Any
    args: tuple[Any, ...]


@dataclass(frozen=True)
class Instance:
    cls: Any
    state: Any = None


@dataclass(frozen=True)
class Persistent:
    value: Any


@dataclass(frozen=True)
class Raw:
    opcodes: bytes


@dataclass
class Writer:
    """Gathers the storages of the tensors it is given, under rising keys. storage: the class they are declared as."""

    storage: Global = field(default_factory=lambda: Global("torch", "FloatStorage"))
    rebuild: str = "_rebuild_tensor_v2"
    sources: bool = False
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def tensor(self, array: np.ndarray) -> Call:
        """The same array twice is the same storage twice."""
        key = next((key for key, known in self.arrays.items() if known is array), str(len(self.arrays)))
        self.arrays[key] = array
        view = (None,) if self.sources else ()
        pid = Persistent(("storage", self.storage, key, "cpu", array.size, *view))
        strides = tuple(stride // array.itemsize for stride in np.ascontiguousarray(array).strides)
        rest = (True, Call(Global("collections", "OrderedDict"), ())) if self.rebuild.endswith("v2") else ()
        return Call(Global("torch._utils", self.rebuild), (pid, 0, array.shape, strides, *rest))

    def cls(self, module: str, name: str) -> Any:
        """A class of a module; the legacy format names it together with its source text."""
        named = Global(module, name)
        return Persistent(("module", named, f"/home/x/{name}.py", f"class {name}: ...")) if self.sources else named

    def legacy(self, path: Path, root: Any) -> Path:
        keys = list(self.arrays)
        storages = b"".join(
            struct.pack("<q", array.size) + np.ascontiguousarray(array).tobytes() for array in self.arrays.values()
        )
        path.write_bytes(b"".join(pickled(part) for part in (*LEGACY_HEAD, root, keys)) + storages)
        return path

    def zipped(self, path: Path, root: Any, compression: int = zipfile.ZIP_STORED) -> Path:
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("archive/data.pkl", pickled(root))
            archive.writestr("archive/byteorder", "little")
            for key, array in self.arrays.items():
                archive.writestr(f"archive/data/{key}", np.ascontiguousarray(array).tobytes())
        return path


def pickled(value: Any) -> bytes:
    """A pickle of protocol 2."""
    return b"\x80\x02" + opcodes(value) + b"."


def opcodes(value: Any) -> bytes:
    match value:
        case Raw():
            return value.opcodes
        case Global():
            return f"c{value.module}\n{value.name}\n".encode()
        case Call():
            return opcodes(value.callee) + opcodes(value.args) + b"R"
        case Instance():
            return opcodes(value.cls) + b")\x81" + (opcodes(value.state) + b"b" if value.state is not None else b"")
        case Persistent():
            return opcodes(value.value) + b"Q"
        case tuple():
            return b"(" + b"".join(map(opcodes, value)) + b"t"
        case list():
            return b"](" + b"".join(map(opcodes, value)) + b"e"
        case Mapping():
            return b"}(" + b"".join(opcodes(key) + opcodes(item) for key, item in value.items()) + b"u"
        case _:
            return scalar(value)


def scalar(value: float | str | None) -> bytes:
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(raw)]) + raw
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
