"""The two file formats of torch.save: the pickle, and where in the file each storage lies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.checkpoints.awd_lstm_lm import unpickler
from harness.checkpoints.awd_lstm_lm.archive import SIGNATURE, Archive
from harness.checkpoints.awd_lstm_lm.names import MAX_ELEMENTS, STORAGES
from harness.checkpoints.awd_lstm_lm.values import MalformedError, Mapping, Name, Storage, Tensor, shown

MAX_PICKLE_BYTES = 16 << 20
"""A checkpoint's pickles hold structure and source text: some 100 kB."""

MOST_VIEWS = 4
"""Tensors may show the same numbers more than once; together they hold at most so many times the file's bytes."""

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001


@dataclass(slots=True)
class Container:
    """An open checkpoint. layout: `legacy` or `zip`. root: the value of its pickle, which holds no numbers yet.

    place: where in the file a storage begins, in bytes, once it is known to be there whole.
    """

    layout: str
    root: Any
    path: Path
    num_bytes: int
    place: Callable[[Storage], int]
    num_read: int = 0

    def array(self, tensor: Tensor) -> np.ndarray:
        """The numbers of a tensor in its own shape, and no more of its storage than that.

        Raises MalformedError where they are not in the file, or where the tensors so far hold more than the file could.
        """
        count, dtype = check_view(tensor), _dtype(tensor.storage)
        self.num_read += count * dtype.itemsize
        if self.num_read > MOST_VIEWS * self.num_bytes:
            raise MalformedError("its tensors show the same numbers again and again, more than the file holds")
        first = self.place(tensor.storage) + tensor.offset * dtype.itemsize
        flat = np.fromfile(self.path, dtype, count, offset=first)
        if len(flat) != count:
            raise MalformedError("it ends inside a storage: it is truncated")
        return flat.astype(dtype.newbyteorder("="), copy=False).reshape(tensor.sizes)


@contextmanager
def opened(path: Path) -> Iterator[Container]:
    """Read a checkpoint's pickle and find its storages. Raises MalformedError; OSError where it cannot be read."""
    num_bytes = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(MAX_PICKLE_BYTES)
    if not head:
        raise MalformedError("it is empty")
    if head.startswith(SIGNATURE):
        with Archive(path) as archive:
            yield _zip(path, archive)
    else:
        yield _legacy(path, head, num_bytes)


def _zip(path: Path, archive: Archive) -> Container:
    """`NAME/data.pkl` beside `NAME/data/KEY`, all of them stored as they are."""
    pickles = [name for name in archive.names() if name.endswith("/data.pkl")]
    if len(pickles) != 1 or pickles[0].count("/") != 1:
        raise MalformedError("it is a zip file without the one data.pkl that torch.save writes")
    if archive.size(pickles[0]) > MAX_PICKLE_BYTES:
        raise MalformedError(f"its pickle has {archive.size(pickles[0]):,} bytes, more than any checkpoint's")
    folder = pickles[0].removesuffix("/data.pkl")
    order = f"{folder}/byteorder"
    if order in archive.names() and archive.read(order) != b"little":
        raise MalformedError("it was written on a big-endian machine, which is not supported")
    data = bytes(archive.read(pickles[0]))
    root, end = unpickler.read(data, 0, _Persistent({}))
    if end != len(data):
        raise MalformedError("its pickle ends before its data.pkl does")

    places: dict[str, int] = {}

    def place(storage: Storage) -> int:
        name, size = f"{folder}/data/{storage.key}", storage.num_elements * _dtype(storage).itemsize
        if archive.size(name) != size:
            raise MalformedError(f"{shown(name)} in it has {archive.size(name):,} bytes where {size:,} are declared")
        if name not in places:
            places[name] = archive.place(name)
        return places[name]

    return Container("zip", root, path, archive.num_bytes, place)


def _legacy(path: Path, head: bytes, num_bytes: int) -> Container:
    """Five pickles (magic number, protocol, the writer's system, the objects, the keys) and then the storages."""
    declared: dict[str, Storage] = {}
    plain = _Persistent({})
    magic, position = unpickler.read(head, 0, plain)
    if type(magic) is not int or magic != MAGIC:
        raise MalformedError("it is no file of torch.save: the magic number is missing")
    protocol, position = unpickler.read(head, position, plain)
    if type(protocol) is not int or protocol != PROTOCOL:
        raise MalformedError("it is a file of torch.save in a protocol that is not known")
    system, position = unpickler.read(head, position, plain)
    if not isinstance(system, Mapping) or system.by_text().get("little_endian") is not True:
        raise MalformedError("it was written on a big-endian machine, which is not supported")
    root, position = unpickler.read(head, position, _Persistent(declared))
    keys, position = unpickler.read(head, position, plain)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise MalformedError("its list of storages is missing")
    if len(keys) != len(declared) or set(keys) != set(declared):
        raise MalformedError("the storages in it are not those that its pickle speaks of")
    places = _places(path, position, num_bytes, [declared[key] for key in keys])

    return Container("legacy", root, path, num_bytes, lambda storage: places[storage.key])


def _places(path: Path, position: int, num_bytes: int, storages: list[Storage]) -> dict[str, int]:
    """Where the numbers of each storage begin: a count of elements (int64), then their bytes, one after the other."""
    places: dict[str, int] = {}
    with path.open("rb") as file:
        for storage in storages:
            size = storage.num_elements * _dtype(storage).itemsize
            left = max(0, num_bytes - position - 8)
            if size > left:
                raise MalformedError(
                    f"a storage of {size:,} bytes is declared where {left:,} are left: it is truncated"
                )
            file.seek(position)
            count = int.from_bytes(file.read(8), "little", signed=True)
            if count != storage.num_elements:
                raise MalformedError(f"a storage holds {count:,} numbers where {storage.num_elements:,} are declared")
            places[storage.key] = position + 8
            position += 8 + size
    return places


class _Persistent:
    """Persistent ids of torch.save: classes with their source text, and storages, which it gathers in `declared`."""

    def __init__(self, declared: dict[str, Storage]) -> None:
        self.declared = declared

    def __call__(self, value: Any) -> Any:
        if isinstance(value, tuple) and len(value) == 4 and value[0] == "module" and isinstance(value[1], Name):
            return value[1]
        if not isinstance(value, tuple) or len(value) not in (5, 6) or value[0] != "storage":
            raise MalformedError("it refers to something that is neither a class nor a storage")
        _, kind, key, _device, num_elements, *view = value
        if not isinstance(kind, Name) or kind.name not in STORAGES or not isinstance(key, str):
            raise MalformedError("it refers to a storage without a type and a key")
        if type(num_elements) is not int or not 0 <= num_elements < MAX_ELEMENTS:
            raise MalformedError("it declares a storage of an impossible size")
        if view and view[0] is not None:
            raise MalformedError("it holds views of storages, which torch no longer wrote in 2018")
        known = self.declared.setdefault(key, Storage(kind.name, key, num_elements))
        if (known.kind, known.num_elements) != (kind.name, num_elements):
            raise MalformedError(f"storage {shown(key)} is declared twice, and differently")
        return known


def _dtype(storage: Storage) -> np.dtype[Any]:
    return np.dtype(STORAGES[storage.kind]).newbyteorder("<")


def check_view(tensor: Tensor) -> int:
    """The number of elements of a tensor. Raises MalformedError unless it lies whole, row by row, in its storage."""
    shape = list(tensor.sizes)
    if len(tensor.strides) != len(shape):
        raise MalformedError(f"a tensor of shape {shape} has {len(tensor.strides)} strides")
    count = 1
    for size, stride in zip(reversed(tensor.sizes), reversed(tensor.strides), strict=True):
        if size > 1 and stride != count:
            raise MalformedError(f"a tensor of shape {shape} is not laid out row by row")
        count *= size
    if math.prod(max(1, size) for size in tensor.sizes) >= MAX_ELEMENTS:
        # A size of 0 makes the count 0, whatever stands beside it; numpy multiplies the others all the same.
        raise MalformedError("it declares a tensor of an impossible size")
    if tensor.offset < 0 or tensor.offset + count > tensor.storage.num_elements:
        raise MalformedError(f"a tensor of shape {shape} reaches beyond its storage")
    return count
