"""Find the pickle and the tensors in a file of torch.save: the zip format of today and the legacy format of 2018."""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.checkpoints.awd_lstm_lm import pickle_reader
from harness.checkpoints.awd_lstm_lm.allow_list import (
    MAX_ELEMENTS,
    STORAGES,
    MalformedError,
    Name,
    Pairs,
    Storage,
    Tensor,
    shown,
)
from harness.system.reading import open_regular

# A checkpoint's pickles hold structure and source text, some 100 kB.
MAX_PICKLE_BYTES = 16 << 20

# The most that zipfile may read at once. The directory of a zip file is read in one piece, and each of its entries
# becomes a Python object ten times its size; 4 MiB hold about 50,000 entries.
MAX_READ_BYTES = 4 << 20

ZIP_SIGNATURE = b"PK\x03\x04"

# The first two pickles of the legacy format.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


@dataclass(slots=True)
class TorchFile:
    """An open file of torch.save. layout: `zip` or `legacy`. root: the pickled value, with tensors as declared.

    load: reads the numbers of one storage from the file.
    """

    layout: str
    root: Any
    num_bytes: int
    load: Callable[[Storage], np.ndarray]
    loaded: dict[str, np.ndarray] = field(default_factory=dict)

    def array(self, tensor: Tensor) -> np.ndarray:
        """The numbers of a tensor, a view of its storage. Raises MalformedError if they are not in the file."""
        num_elements = check_view(tensor)
        storage = tensor.storage
        if storage.key not in self.loaded:
            # Each storage is read once, and storages do not overlap, so together they take no more than the file.
            self.loaded[storage.key] = self.load(storage)
        flat = self.loaded[storage.key][tensor.offset : tensor.offset + num_elements]
        return flat.astype(flat.dtype.newbyteorder("="), copy=False).reshape(tensor.shape)


@contextmanager
def open_torch_file(path: Path) -> Iterator[TorchFile]:
    """Read the pickle of a file of torch.save. Raises MalformedError for another file, OSError if it is unreadable."""
    with open_regular(path) as file:
        num_bytes = os.fstat(file.fileno()).st_size
        if num_bytes == 0:
            raise MalformedError("it is empty")
        is_zip = file.read(len(ZIP_SIGNATURE)) == ZIP_SIGNATURE
    if not is_zip:
        yield _open_legacy(path, num_bytes)
        return
    with _BoundedFile(path) as file:
        yield _Zip(file, num_bytes).open()


def check_view(tensor: Tensor) -> int:
    """The number of elements of a tensor. Raises MalformedError unless it is contiguous and within its storage."""
    shape = list(tensor.shape)
    if len(tensor.strides) != len(shape):
        raise MalformedError(f"a tensor of shape {shape} has {len(tensor.strides)} strides")
    count = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.strides), strict=True):
        if size > 1 and stride != count:
            raise MalformedError(f"a tensor of shape {shape} is not contiguous")
        count *= size
    # A size of 0 makes the count 0, but numpy multiplies the other sizes all the same.
    if math.prod(max(1, size) for size in tensor.shape) >= MAX_ELEMENTS:
        raise MalformedError("it declares a tensor of an impossible size")
    if tensor.offset < 0 or tensor.offset + count > tensor.storage.num_elements:
        raise MalformedError(f"a tensor of shape {shape} reaches beyond its storage")
    return count


class _Zip:
    """A zip file with the pickle `NAME/data.pkl` and each storage in `NAME/data/KEY`, uncompressed."""

    def __init__(self, file: _BoundedFile, num_bytes: int) -> None:
        self.num_bytes = num_bytes
        self.bytes_left = num_bytes
        with _zip_errors():
            self.archive = zipfile.ZipFile(file)
        pickles = [name for name in self.archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1 or pickles[0].count("/") != 1:
            raise MalformedError("it is a zip file without the one data.pkl that torch.save writes")
        self.folder = pickles[0].removesuffix("/data.pkl")

    def open(self) -> TorchFile:
        """Read the pickle."""
        if f"{self.folder}/byteorder" in self.archive.namelist() and self.read("byteorder") != b"little":
            raise MalformedError("it was written on a big-endian machine, which is not supported")
        if self.size("data.pkl") > MAX_PICKLE_BYTES:
            raise MalformedError(f"its pickle has {self.size('data.pkl'):,} bytes, more than any checkpoint's")
        content = self.read("data.pkl")
        file = io.BytesIO(content)
        root = pickle_reader.read(file, _PersistentIds())
        if file.tell() != len(content):
            raise MalformedError("its pickle ends before its data.pkl does")
        return TorchFile("zip", root, self.num_bytes, self.load)

    def size(self, member: str) -> int:
        """Bytes of a member as the directory claims. Raises MalformedError if it is missing or compressed."""
        name = f"{self.folder}/{member}"
        try:
            info = self.archive.getinfo(name)
        except KeyError:
            raise MalformedError(f"it lacks {shown(name)}, which its pickle names") from None
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise MalformedError(f"{shown(name)} in it is compressed, which torch.save never does")
        if info.file_size > self.bytes_left:
            raise MalformedError(f"the members of its zip file claim more than its {self.num_bytes:,} bytes")
        return info.file_size

    def read(self, member: str) -> bytearray:
        """A member's bytes, after its checksum matched. Writable, so that torch takes them without a copy."""
        size = self.size(member)
        self.bytes_left -= size
        content, position = bytearray(size), 0
        with _zip_errors(), self.archive.open(f"{self.folder}/{member}") as file:
            while chunk := file.read(1 << 20):
                content[position : position + len(chunk)] = chunk
                position += len(chunk)
        if position != size:
            raise MalformedError(f"{shown(member)} in it is truncated")
        return content

    def load(self, storage: Storage) -> np.ndarray:
        """The numbers of a storage."""
        dtype, member = _dtype(storage), f"data/{storage.key}"
        declared = storage.num_elements * dtype.itemsize
        if self.size(member) != declared:
            raise MalformedError(f"{shown(member)} has {self.size(member):,} bytes where {declared:,} are declared")
        return np.frombuffer(self.read(member), dtype)


class _BoundedFile(io.FileIO):
    """A file that refuses large reads: zipfile asks for as much as the directory claims, and Python allocates it."""

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(MAX_READ_BYTES + 1 if size is None or size < 0 else min(size, MAX_READ_BYTES + 1))
        if len(content) > MAX_READ_BYTES:
            raise MalformedError("it is a zip file whose directory is larger than any checkpoint's")
        return content


@contextmanager
def _zip_errors() -> Iterator[None]:
    """Turn all that zipfile raises for a damaged file into MalformedError."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError) as error:
        raise MalformedError(f"it is a damaged zip file: {shown(str(error))}") from None


def _open_legacy(path: Path, num_bytes: int) -> TorchFile:
    """Five pickles (magic number, protocol, the writer's system, the objects, the storage keys), then the storages."""
    with open_regular(path) as opened:
        file = io.BytesIO(opened.read(MAX_PICKLE_BYTES))
    storages = _PersistentIds()
    magic = pickle_reader.read(file, storages)
    if type(magic) is not int or magic != LEGACY_MAGIC:
        raise MalformedError("it is no file of torch.save: the magic number is missing")
    protocol = pickle_reader.read(file, storages)
    if type(protocol) is not int or protocol != LEGACY_PROTOCOL:
        raise MalformedError("it is a file of torch.save in an unknown protocol")
    system = pickle_reader.read(file, storages)
    if not isinstance(system, Pairs) or system.by_text().get("little_endian") is not True:
        raise MalformedError("it was written on a big-endian machine, which is not supported")
    root = pickle_reader.read(file, storages)
    keys = pickle_reader.read(file, _PersistentIds())
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise MalformedError("its list of storages is missing")
    declared = storages.declared
    if len(keys) != len(declared) or set(keys) != set(declared):
        raise MalformedError("the storages in it are not those that its pickle names")
    offsets = _legacy_offsets(path, file.tell(), num_bytes, [declared[key] for key in keys])

    def load(storage: Storage) -> np.ndarray:
        flat = np.fromfile(path, _dtype(storage), storage.num_elements, offset=offsets[storage.key])
        if len(flat) != storage.num_elements:
            raise MalformedError("it ends inside a storage: it is truncated")
        return flat

    return TorchFile("legacy", root, num_bytes, load)


def _legacy_offsets(path: Path, position: int, num_bytes: int, storages: list[Storage]) -> dict[str, int]:
    """Where each storage begins: a count of elements (int64), then their bytes, one storage after the other."""
    offsets: dict[str, int] = {}
    with open_regular(path) as file:
        for storage in storages:
            size, left = storage.num_elements * _dtype(storage).itemsize, max(0, num_bytes - position - 8)
            if size > left:
                raise MalformedError(f"a storage of {size:,} bytes is declared where {left:,} are left: truncated")
            file.seek(position)
            count = int.from_bytes(file.read(8), "little", signed=True)
            if count != storage.num_elements:
                raise MalformedError(f"a storage holds {count:,} numbers where {storage.num_elements:,} are declared")
            offsets[storage.key] = position + 8
            position += 8 + size
    return offsets


class _PersistentIds:
    """Resolve the persistent ids of torch.save: a class with its source text, or a storage, collected in `declared`."""

    def __init__(self) -> None:
        self.declared: dict[str, Storage] = {}

    def __call__(self, value: Any) -> Name | Storage:
        if isinstance(value, tuple) and len(value) == 4 and value[0] == "module" and isinstance(value[1], Name):
            return value[1]
        if not isinstance(value, tuple) or len(value) not in (5, 6) or value[0] != "storage":
            raise MalformedError("it refers to something that is neither a class nor a storage")
        _, kind, key, _device, num_elements, *view = value
        if not isinstance(kind, Name) or kind.path not in STORAGES or not isinstance(key, str):
            raise MalformedError("it refers to a storage without a type and a key")
        if type(num_elements) is not int or not 0 <= num_elements < MAX_ELEMENTS:
            raise MalformedError("it declares a storage of an impossible size")
        if view and view[0] is not None:
            raise MalformedError("it holds views of storages, which torch no longer wrote in 2018")
        storage = self.declared.setdefault(key, Storage(STORAGES[kind.path], key, num_elements))
        if (storage.dtype, storage.num_elements) != (STORAGES[kind.path], num_elements):
            raise MalformedError(f"storage {shown(key)} is declared twice, and differently")
        return storage


def _dtype(storage: Storage) -> np.dtype[Any]:
    return np.dtype(storage.dtype).newbyteorder("<")
