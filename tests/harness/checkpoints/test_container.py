"""The two file formats, whole and broken."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pickle_assembler import Call, Global, Persistent, Raw, Writer, pickled

from harness.checkpoints.awd_lstm_lm.container import MAGIC, opened
from harness.checkpoints.awd_lstm_lm.values import MalformedError, Tensor
from harness.system.source import ROOT


def arrays_of(path: Path) -> list[np.ndarray]:
    with opened(path) as container:
        return [container.array(tensor) for tensor in container.root if isinstance(tensor, Tensor)]


def refusal(path: Path) -> str:
    with pytest.raises(MalformedError) as caught:
        arrays_of(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool])
def test_tensors_that_torch_saved_come_out_with_every_bit(tmp_path: Path, legacy: bool, dtype: torch.dtype) -> None:
    tensors = [torch.randn(3, 4).to(dtype), torch.randn(5).to(dtype), torch.zeros(0, 3).to(dtype)]
    both = torch.arange(24).to(dtype)
    tensors += [both[:12].view(3, 4), both[12:].view(4, 3), torch.ones(()).to(dtype)]
    torch.save(tensors, tmp_path / "t.pt", _use_new_zipfile_serialization=not legacy)
    found = arrays_of(tmp_path / "t.pt")
    for tensor, array in zip(tensors, found, strict=True):
        np.testing.assert_array_equal(array, tensor.numpy(), strict=True)


@pytest.mark.parametrize("rebuild", ["_rebuild_tensor", "_rebuild_tensor_v2"])
@pytest.mark.parametrize("module", ["torch", "torch.cuda"])
def test_storages_of_2018_with_their_devices_and_views_are_read(tmp_path: Path, rebuild: str, module: str) -> None:
    writer = Writer(Global(module, "FloatStorage"), rebuild, sources=True)
    one, two = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(4, dtype=np.float32)
    tensors = [writer.tensor(one), Call(Global("torch.nn.parameter", "Parameter"), (writer.tensor(two),))]
    found = arrays_of(writer.legacy(tmp_path / "t.pt", tensors))
    np.testing.assert_array_equal(found[0], one)
    np.testing.assert_array_equal(found[1], two)


def pid(num_elements: int, key: str = "0", kind: str = "FloatStorage") -> Persistent:
    return Persistent(("storage", Global("torch", kind), key, "cpu", num_elements))


def view(storage: Persistent, offset: int, sizes: tuple[int, ...], strides: tuple[int, ...]) -> Call:
    return Call(Global("torch._utils", "_rebuild_tensor"), (storage, offset, sizes, strides))


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (view(pid(6), 0, (1 << 40,), (0,)), "not laid out row by row"),
        (view(pid(6), 0, (2, 3), (1, 2)), "not laid out row by row"),
        (view(pid(6), 0, (2, 4), (4, 1)), "reaches beyond its storage"),
        (view(pid(6), 5, (2,), (1,)), "reaches beyond its storage"),
        (view(pid(6), -1, (2,), (1,)), "reaches beyond its storage"),
        (view(pid(6), 0, (2,), ()), "has 0 strides"),
        (view(pid(6), 0, (1 << 60, 1 << 60), (1 << 60, 1)), "impossible size"),
        (view(pid(6), 0, (0, 1 << 70), (1, 1)), "impossible size"),
        (view(pid(6), 0, (0, 2), (1 << 70, 1)), "impossible size"),
        (view(pid(6), 0, (0, 1 << 40, 1 << 40), (1, 1 << 40, 1)), "impossible size"),
        (view(pid(1 << 40), 0, (2,), (1,)), "declared|lacks|holds"),
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
def test_tensors_that_reach_beyond_what_is_there_are_refused(
    tmp_path: Path, legacy: bool, tensor: Any, message: str
) -> None:
    writer = Writer()
    writer.tensor(np.zeros(6, dtype=np.float32))
    root = list(tensor) if isinstance(tensor, tuple) else [tensor]
    path = (writer.legacy if legacy else writer.zipped)(tmp_path / "t.pt", root)
    with pytest.raises(MalformedError, match=message):
        arrays_of(path)


def test_the_same_numbers_shown_a_thousand_times_are_refused(tmp_path: Path) -> None:
    writer = Writer()
    array = np.zeros(2000, dtype=np.float32)
    path = writer.legacy(tmp_path / "t.pt", [writer.tensor(array) for _ in range(1000)])
    assert "again and again" in refusal(path)


WATCHED = """
import resource, sys
from pathlib import Path
import numpy
from harness.checkpoints.awd_lstm_lm.container import opened

held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = held + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
with opened(Path(sys.argv[1])) as container:
    arrays = [container.array(tensor) for tensor in container.root]
print(len(arrays), sum(float(array.sum()) for array in arrays))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's here")
@pytest.mark.parametrize("legacy", [True, False])
def test_small_views_of_a_large_storage_take_no_more_memory_than_they_show(tmp_path: Path, legacy: bool) -> None:
    num_elements, num_views = 4 << 20, 200
    writer = Writer()
    writer.tensor(np.ones(num_elements, np.float32))
    views = [view(pid(num_elements), 100 * number, (100,), (1,)) for number in range(num_views)]
    path = (writer.legacy if legacy else writer.zipped)(tmp_path / "t.pt", views)
    run = subprocess.run(
        [sys.executable, "-c", WATCHED, str(path), str(2 * path.stat().st_size)],
        capture_output=True, text=True, cwd=ROOT, timeout=100, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [str(num_views), str(float(100 * num_views))]


def test_a_zip_file_whose_storages_lie_within_one_another_is_refused(tmp_path: Path) -> None:
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
    assert any(word in refusal(tmp_path / "t.pt") for word in ("storages overlap", "Overlapped"))


def test_a_legacy_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    writer = Writer(sources=True)
    root = [writer.tensor(np.ones((2, 3), np.float32)), writer.tensor(np.ones(5, np.float32))]
    whole = writer.legacy(tmp_path / "t.pt", root).read_bytes()
    for length in range(0, len(whole), 2):
        (tmp_path / "cut.pt").write_bytes(whole[:length])
        refusal(tmp_path / "cut.pt")


def test_a_zip_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    writer = Writer()
    whole = writer.zipped(tmp_path / "t.pt", [writer.tensor(np.ones((2, 3), np.float32))]).read_bytes()
    for length in range(0, len(whole), 3):
        (tmp_path / "cut.pt").write_bytes(whole[:length])
        refusal(tmp_path / "cut.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (pickled(Raw(b"cposix\nsystem\n")), "names posix.system"),
        (pickled(7), "magic number is missing"),
        (pickled(MAGIC) + pickled(1000), "protocol that is not known"),
        (pickled(MAGIC) + pickled(1001) + pickled({"little_endian": False}), "big-endian"),
        (
            pickled(MAGIC) + pickled(1001) + pickled({"little_endian": True}) + pickled([]) + pickled(3),
            "list of storages",
        ),
        (random.Random(5).randbytes(4096), "none that an official checkpoint holds"),
        (b"PK\x03\x04" + random.Random(6).randbytes(4096), "damaged zip file"),
    ],
)
def test_other_bytes_are_refused_in_words(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.pt").write_bytes(content)
    assert message in refusal(tmp_path / "t.pt")


def test_a_storage_whose_count_is_not_the_declared_one_is_refused(tmp_path: Path) -> None:
    writer = Writer()
    path = writer.legacy(tmp_path / "t.pt", [writer.tensor(np.ones(5, np.float32))])
    raw = path.read_bytes()
    path.write_bytes(raw[:-28] + struct.pack("<q", 4) + raw[-20:])
    assert "holds 4 numbers where 5 are declared" in refusal(path)


def members(path: Path, root: Any, **more: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(root))
        for name, content in more.items():
            archive.writestr(name.replace("__", "/"), content)
    return path


def test_zip_files_that_torch_would_not_write_are_refused(tmp_path: Path) -> None:
    one = view(pid(6), 0, (2,), (1,))
    writer = Writer()
    writer.tensor(np.zeros(1000, dtype=np.float32))
    compressed = writer.zipped(tmp_path / "a.pt", [one], zipfile.ZIP_DEFLATED)
    assert "is compressed, which torch.save never does" in refusal(compressed)
    assert "has 20 bytes where 24 are declared" in refusal(
        members(tmp_path / "b.pt", [one], archive__data__0=b"0" * 20)
    )
    assert "big-endian" in refusal(members(tmp_path / "c.pt", [one], archive__byteorder=b"big"))
    with zipfile.ZipFile(tmp_path / "d.pt", "w") as archive:
        archive.writestr("a/data.pkl", pickled([]))
        archive.writestr("b/data.pkl", pickled([]))
    assert "without the one data.pkl" in refusal(tmp_path / "d.pt")
    for name in ("data.pkl", "../data.pkl", "a/b/data.pkl", "/data.pkl/x"):
        with zipfile.ZipFile(tmp_path / "e.pt", "w") as archive:
            archive.writestr(name, pickled([]))
        if name == "../data.pkl":
            assert arrays_of(tmp_path / "e.pt") == [], "a member's name is only a name: nothing is unpacked"
            assert not (tmp_path.parent / "data.pkl").exists()
        else:
            assert "without the one data.pkl" in refusal(tmp_path / "e.pt")


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


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("whole")
    files = []
    for legacy in (True, False):
        writer = Writer(sources=legacy)
        root = [writer.tensor(np.ones((2, 3), np.float32)), {"a": (1, 2.0)}]
        files.append((writer.legacy if legacy else writer.zipped)(folder / "t.pt", root).read_bytes())
    return files


@settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.integers(0, 1), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_changed_bytes_give_arrays_or_one_refusal(
    tmp_path: Path, whole_files: list[bytes], which: int, changes: list[tuple[float, int]]
) -> None:
    raw = bytearray(whole_files[which])
    for where, value in changes:
        raw[int(where * (len(raw) - 1))] = value
    (tmp_path / "t.pt").write_bytes(raw)
    try:
        with opened(tmp_path / "t.pt") as container:
            for tensor in container.root if isinstance(container.root, list) else []:
                if isinstance(tensor, Tensor):
                    container.array(tensor)
    except MalformedError as error:
        said = str(error)
    else:
        said = ""
    assert "\n" not in said
