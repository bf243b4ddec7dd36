"""Both formats of torch.save: valid, hostile and damaged files."""

from __future__ import annotations

import random
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from official_files import Call, Global, Persistent, Raw, Writer, pickled, run_limited

from harness.checkpoints.awd_lstm_lm.allow_list import MalformedError, Tensor
from harness.checkpoints.awd_lstm_lm.torch_file import LEGACY_MAGIC, open_torch_file


def arrays_of(path: Path) -> list[np.ndarray]:
    with open_torch_file(path) as file:
        return [file.array(tensor) for tensor in file.root if isinstance(tensor, Tensor)]


def refusal(path: Path) -> str:
    with pytest.raises(MalformedError) as caught:
        arrays_of(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool])
def test_tensors_that_torch_saved_are_read_to_the_bit(tmp_path: Path, legacy: bool, dtype: torch.dtype) -> None:
    tensors = [torch.randn(3, 4).to(dtype), torch.randn(5).to(dtype), torch.zeros(0, 3).to(dtype)]
    both = torch.arange(24).to(dtype)
    tensors += [both[:12].view(3, 4), both[12:].view(4, 3), torch.ones(()).to(dtype)]
    torch.save(tensors, tmp_path / "t.pt", _use_new_zipfile_serialization=not legacy)
    for tensor, array in zip(tensors, arrays_of(tmp_path / "t.pt"), strict=True):
        np.testing.assert_array_equal(array, tensor.numpy(), strict=True)


def pid(num_elements: int, key: str = "0", kind: str = "FloatStorage") -> Persistent:
    return Persistent(("storage", Global("torch", kind), key, "cpu", num_elements))


def view(storage: Persistent, offset: int, sizes: tuple[int, ...], strides: tuple[int, ...]) -> Call:
    return Call(Global("torch._utils", "_rebuild_tensor"), (storage, offset, sizes, strides))


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (view(pid(6), 0, (1 << 40,), (0,)), "not contiguous"),
        (view(pid(6), 0, (2, 3), (1, 2)), "not contiguous"),
        (view(pid(6), 0, (2, 4), (4, 1)), "reaches beyond its storage"),
        (view(pid(6), 5, (2,), (1,)), "reaches beyond its storage"),
        (view(pid(6), -1, (2,), (1,)), "reaches beyond its storage"),
        (view(pid(6), 0, (2,), ()), "has 0 strides"),
        (view(pid(6), 0, (1 << 60, 1 << 60), (1 << 60, 1)), "impossible size"),
        (view(pid(6), 0, (0, 1 << 70), (1, 1)), "impossible size"),
        (view(pid(6), 0, (0, 2), (1 << 70, 1)), "impossible size"),
        (view(pid(6), 0, (0, 1 << 40, 1 << 40), (1, 1 << 40, 1)), "impossible size"),
        (view(pid(1 << 40), 0, (2,), (1,)), "declared|lacks|holds|claim"),
        (view(pid(1 << 50), 0, (2,), (1,)), "impossible size"),
        (view(pid(-1), 0, (2,), (1,)), "impossible size"),
        (view(pid(6, kind="UntypedStorage"), 0, (2,), (1,)), "names torch.UntypedStorage"),
        (view(pid(6, key="../../../etc/passwd"), 0, (2,), (1,)), "lacks|storages in it are not"),
        ((view(pid(6), 0, (2,), (1,)), view(pid(7), 0, (2,), (1,))), "declared twice"),
        (view(Persistent(("storage", "x", "0", "cpu", 6)), 0, (2,), (1,)), "without a type and a key"),
        (view(Persistent("0"), 0, (2,), (1,)), "neither a class nor a storage"),
    ],
)
@pytest.mark.parametrize("legacy", [True, False])
def test_impossible_tensors_are_refused(tmp_path: Path, legacy: bool, tensor: Any, message: str) -> None:
    writer = Writer()
    writer.tensor(np.zeros(6, dtype=np.float32))
    root = list(tensor) if type(tensor) is tuple else [tensor]
    with pytest.raises(MalformedError, match=message):
        arrays_of(writer.write(tmp_path / "t.pt", root, legacy=legacy))


READ_LIMITED = """
import resource, sys
from pathlib import Path
import numpy
from harness.checkpoints.awd_lstm_lm.torch_file import open_torch_file

limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
with open_torch_file(Path(sys.argv[1])) as file:
    arrays = [file.array(tensor) for tensor in file.root]
print(len(arrays), sum(float(array.sum()) for array in arrays))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the memory limit works on Linux only")
@pytest.mark.parametrize("legacy", [True, False])
def test_many_views_of_a_large_storage_take_the_memory_of_one(tmp_path: Path, legacy: bool) -> None:
    num_elements, num_views = 4 << 20, 200
    writer = Writer()
    writer.tensor(np.ones(num_elements, np.float32))
    views = [view(pid(num_elements), 100 * number, (100,), (1,)) for number in range(num_views)]
    path = writer.write(tmp_path / "t.pt", views, legacy=legacy)
    run = run_limited(READ_LIMITED, path, 2 * path.stat().st_size)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [str(num_views), str(float(100 * num_views))]


def test_overlapping_members_of_a_zip_file_are_refused(tmp_path: Path) -> None:
    inner = tmp_path / "inner.zip"
    body = np.zeros(10_000, np.float32).tobytes()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("archive/data/1", body)
        nested = archive.getinfo("archive/data/1")
    raw = inner.read_bytes()[: archive.start_dir]
    raw += b"\0" * (-len(raw) % 4)
    tensors = [view(pid(len(raw) // 4), 0, (1,), (1,)), view(pid(10_000, "1"), 0, (1,), (1,))]
    with zipfile.ZipFile(tmp_path / "t.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickled(tensors))
        archive.writestr("archive/data/0", raw)
        outer = archive.getinfo("archive/data/0")
        nested.header_offset = outer.header_offset + 30 + len(outer.filename)
        archive.filelist.append(nested)
    # Newer versions of zipfile find the overlap themselves.
    assert any(word in refusal(tmp_path / "t.pt") for word in ("claim more than", "Overlapped"))


@pytest.mark.parametrize("legacy", [True, False])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, legacy: bool) -> None:
    writer = Writer(sources=legacy)
    root = [writer.tensor(np.ones((2, 3), np.float32)), writer.tensor(np.ones(5, np.float32))]
    content = writer.write(tmp_path / "t.pt", root, legacy=legacy).read_bytes()
    for length in range(0, len(content), 3):
        (tmp_path / "cut.pt").write_bytes(content[:length])
        refusal(tmp_path / "cut.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (pickled(Raw(b"cposix\nsystem\n")), "names posix.system"),
        (pickled(7), "magic number is missing"),
        (pickled(LEGACY_MAGIC) + pickled(1000), "unknown protocol"),
        (pickled(LEGACY_MAGIC) + pickled(1001) + pickled({"little_endian": False}), "big-endian"),
        (
            pickled(LEGACY_MAGIC) + pickled(1001) + pickled({"little_endian": True}) + pickled([]) + pickled(3),
            "list of storages",
        ),
        (random.Random(5).randbytes(4096), "at byte 0"),
        (b"PK\x03\x04" + random.Random(6).randbytes(4096), "damaged zip file"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.pt").write_bytes(content)
    assert message in refusal(tmp_path / "t.pt")


def test_a_storage_whose_count_is_not_the_declared_one_is_refused(tmp_path: Path) -> None:
    writer = Writer()
    path = writer.legacy(tmp_path / "t.pt", [writer.tensor(np.ones(5, np.float32))])
    raw = path.read_bytes()
    path.write_bytes(raw[:-28] + struct.pack("<q", 4) + raw[-20:])
    assert "holds 4 numbers where 5 are declared" in refusal(path)


def zip_of(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return path


ONE = pickled([view(pid(6), 0, (2,), (1,))])


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"archive__data.pkl": ONE, "archive__data__0": b"0" * 20}, "has 20 bytes where 24 are declared"),
        ({"archive__data.pkl": ONE, "archive__byteorder": b"big"}, "big-endian"),
        ({"archive__data.pkl": ONE + b"N"}, "ends before its data.pkl"),
        ({"a__data.pkl": pickled([]), "b__data.pkl": pickled([])}, "without the one data.pkl"),
        ({"data.pkl": pickled([])}, "without the one data.pkl"),
        ({"a__b__data.pkl": pickled([])}, "without the one data.pkl"),
        ({"__data.pkl__x": pickled([])}, "without the one data.pkl"),
    ],
)
def test_zip_files_that_torch_would_not_write_are_refused(
    tmp_path: Path, members: dict[str, bytes], message: str
) -> None:
    assert message in refusal(zip_of(tmp_path / "t.pt", **members))


def test_a_compressed_zip_file_is_refused(tmp_path: Path) -> None:
    writer = Writer()
    root = [writer.tensor(np.zeros(1000, np.float32))]
    path = writer.zipped(tmp_path / "t.pt", root, zipfile.ZIP_DEFLATED)
    assert "is compressed, which torch.save never does" in refusal(path)


def test_members_of_a_zip_file_are_never_unpacked(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "t.pt", **{"..__data.pkl": pickled([])})
    assert arrays_of(path) == []
    assert not (tmp_path.parent / "data.pkl").exists()


def test_a_zip_file_with_a_changed_byte_is_refused_by_its_checksum(tmp_path: Path) -> None:
    writer = Writer()
    path = writer.zipped(tmp_path / "t.pt", [writer.tensor(np.full(64, 7, np.float32))])
    raw = path.read_bytes()
    place = raw.index(np.full(64, 7, np.float32).tobytes())
    path.write_bytes(raw[:place] + b"\xff" + raw[place + 1 :])
    assert "CRC" in refusal(path)


def test_a_zip_directory_that_claims_much_is_not_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickled([]))
        info = zipfile.ZipInfo("archive/x")
        info.comment = b"x" * 65_000
        for number in range(80):
            info.filename = f"archive/{number}"
            archive.writestr(info, b"")
    assert "directory is larger" in refusal(tmp_path / "t.pt")
