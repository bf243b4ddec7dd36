"""Find, check, tokenise once; and never trust what went bad."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import harness
from harness import data
from harness.core.errors import DataError
from harness.data import preparation
from harness.data.download import obtain
from harness.data.registry import Dataset, RemoteFile

if TYPE_CHECKING:
    from conftest import Site

BODY = bytes(range(7)) * 40
Register = Callable[[Dataset], Dataset]
Row = Callable[..., Dataset]


def own(path: Path | str, kind: str = "bytes", **more: Any) -> dict[str, Any]:
    return {"kind": kind, "file": str(path), "fractions": [0.8, 0.1, 0.1], **more}


def message(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def archive_of(folder: Path, body: bytes, *urls: str) -> RemoteFile:
    path = folder / "tiny.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/tiny.bin", body)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return RemoteFile(filename="tiny.zip", size=path.stat().st_size, sha256=sha256, urls=urls)


def bytes_of(folder: Path) -> bytes:
    corpus = data.load(folder)
    ids = np.concatenate([corpus.splits[split] for split in ("train", "valid", "test")])
    return bytes(int(corpus.vocabulary[token]) for token in ids)


@pytest.mark.parametrize("place", [".", "tiny", "anything", "folder"])
def test_a_source_is_found_in_any_usual_place(place: str, tmp_path: Path, register: Register, tiny_row: Row) -> None:
    register(tiny_row(BODY))
    root = tmp_path / "root"
    (root / place).mkdir(parents=True)
    (root / place / "tiny.bin").write_bytes(BODY)
    folder = data.prepare("tiny", roots=[tmp_path / "absent", root], cache=tmp_path / "cache", offline=True)
    assert bytes_of(folder) == BODY
    assert sorted(path.name for path in root.rglob("*") if path.is_file()) == ["tiny.bin"]


def test_an_archive_in_a_root_is_unpacked_into_the_cache(tmp_path: Path, register: Register, tiny_row: Row) -> None:
    (tmp_path / "root" / "zips").mkdir(parents=True)
    register(tiny_row(BODY, archive=archive_of(tmp_path / "root" / "zips", BODY)))
    folder = data.prepare("tiny", roots=[tmp_path / "root"], cache=tmp_path / "cache", offline=True)
    assert bytes_of(folder) == BODY
    assert [path.name for path in (tmp_path / "root").rglob("*.*")] == ["tiny.zip"]


def test_downloads_the_archive_when_the_file_is_not_served(
    tmp_path: Path, register: Register, tiny_row: Row, site: Site
) -> None:
    archive = archive_of(tmp_path, BODY, site.url("/tiny.zip"))
    site.serve("/tiny.zip", (tmp_path / "tiny.zip").read_bytes())
    register(tiny_row(BODY, urls=(site.url("/none"),), archive=archive))
    seen: list[str] = []
    folder = data.prepare("tiny", cache=tmp_path / "cache", progress=lambda name, done, total: seen.append(name))
    assert bytes_of(folder) == BODY
    assert set(seen) == {"tiny.zip"}
    num_requests = len(site.requests)
    shutil.rmtree(folder)
    assert data.prepare("tiny", cache=tmp_path / "cache") == folder
    assert len(site.requests) == num_requests


def test_offline_says_what_to_bring_and_where(
    tmp_path: Path, register: Register, tiny_row: Row, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(tiny_row(BODY, urls=(site.serve("/a", BODY),)))
    cache = tmp_path / "cache"
    for offline in (True, False):
        monkeypatch.setenv("HARNESS_OFFLINE", "1")
        text = message(lambda offline=offline: data.prepare("tiny", roots=[tmp_path], cache=cache, offline=offline))
        assert f"bring tiny.bin (280 bytes, sha256 {hashlib.sha256(BODY).hexdigest()})" in text
        assert f"into {tmp_path} or {cache / 'raw' / 'tiny'}" in text
        assert "`harness data import tiny PATH`" in text
    assert site.requests == []


def test_unreachable_says_why_and_what_to_bring(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from harness.data.sources import hutter

    source = hutter.ENWIK8.sources[0]
    assert source.archive is not None
    archive = replace(source.archive, urls=(site.url("/none"),))
    row = replace(hutter.ENWIK8, sources=(replace(source, archive=archive),))
    monkeypatch.setattr(hutter, "ENWIK8", row)
    text = message(lambda: data.prepare("hutter-prize", cache=tmp_path))
    assert "127.0.0.1: HTTP 404" in text
    assert (
        "enwik8.zip (36,445,475 bytes, sha256 547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc)" in text
    )
    assert "`harness data import enwik8 PATH`" in text


def test_a_wrong_file_in_a_root_is_refused_by_name(tmp_path: Path, register: Register, tiny_row: Row) -> None:
    register(tiny_row(BODY))
    (tmp_path / "tiny.bin").write_bytes(BODY[::-1])
    text = message(lambda: data.prepare("tiny", roots=[tmp_path], cache=tmp_path / "cache", offline=True))
    assert str(tmp_path / "tiny.bin") in text
    assert hashlib.sha256(BODY).hexdigest() in text
    assert hashlib.sha256(BODY[::-1]).hexdigest() in text
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "tiny.bin").write_bytes(BODY)
    assert bytes_of(data.prepare("tiny", roots=[tmp_path], cache=tmp_path / "cache", offline=True)) == BODY


def test_a_wrong_file_in_the_cache_is_fetched_again(
    tmp_path: Path, register: Register, tiny_row: Row, site: Site
) -> None:
    register(tiny_row(BODY, urls=(site.serve("/a", BODY),)))
    raw = tmp_path / "raw" / "tiny"
    raw.mkdir(parents=True)
    (raw / "tiny.bin").write_bytes(BODY[::-1])
    assert bytes_of(data.prepare("tiny", cache=tmp_path)) == BODY


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "train.bin").write_bytes(b"x"),
        lambda folder: (folder / "valid.bin").unlink(),
        lambda folder: (folder / "vocabulary.json").write_text("[]"),
        lambda folder: (folder / "vocabulary.json").write_text("{"),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{}"),
        lambda folder: (folder / "manifest.json").write_text('{"format": 1}'),
    ],
)
def test_a_damaged_folder_is_rebuilt_not_trusted(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    (tmp_path / "x.txt").write_bytes(BODY)
    spec, cache = own(tmp_path / "x.txt"), tmp_path / "c"
    folder = data.prepare(spec, cache=cache)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    harm(folder)
    assert "run `harness data prepare`" in message(lambda: data.load(folder))
    assert data.prepare(spec, cache=cache) == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(BODY)
    folder = data.prepare(own(tmp_path / "x.txt"), cache=tmp_path / "c")
    shutil.rmtree(folder)
    (folder.parent / f".{folder.name}-abc").mkdir()
    data.prepare(own(tmp_path / "x.txt"), cache=tmp_path / "c")
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_row_whose_counts_are_not_met_is_refused(tmp_path: Path, register: Register, tiny_row: Row) -> None:
    from dataclasses import replace

    (tmp_path / "tiny.bin").write_bytes(BODY)
    good = tiny_row(BODY)
    register(replace(good, num_tokens={"train": 1, "valid": 2, "test": 3}))
    assert "expected 1" in message(lambda: data.prepare("tiny", roots=[tmp_path], cache=tmp_path / "c"))
    register(replace(good, vocab_size=9))
    assert "7 different tokens, expected 9" in message(
        lambda: data.prepare("tiny", roots=[tmp_path], cache=tmp_path / "c")
    )


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(BODY)
    (tmp_path / "cache").write_text("a file")
    text = message(lambda: data.prepare(own(tmp_path / "x.txt"), cache=tmp_path / "cache"))
    assert "set HARNESS_CACHE" in text


def test_two_processes_at_once_make_one_folder(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(BODY * 2000)
    code = (
        "import sys; from pathlib import Path; from harness import data; "
        "spec = {'kind': 'chars', 'file': sys.argv[1], 'fractions': [.8, .1, .1]}; "
        "print(data.prepare(spec, cache=Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "x.txt"), str(tmp_path / "c")]
    repository = Path(harness.__file__).parents[1]
    running = [subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {process.communicate(timeout=60)[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    (answer,) = answers
    assert bytes_of_chars(Path(answer.strip())) == BODY * 2000
    assert len(list((tmp_path / "c" / "prepared").iterdir())) == 1


def bytes_of_chars(folder: Path) -> bytes:
    corpus = data.load(folder)
    return "".join(corpus.vocabulary[token] for split in corpus.splits.values() for token in split).encode()


def test_a_prepared_dataset_needs_no_sources_and_no_writing(
    tmp_path: Path, register: Register, tiny_row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(tiny_row(BODY))
    (tmp_path / "tiny.bin").write_bytes(BODY)
    folder = data.prepare("tiny", roots=[tmp_path], cache=tmp_path / "c", offline=True)
    (tmp_path / "tiny.bin").unlink()

    def no_lock(*_: object) -> None:
        raise AssertionError("a lock is a write")

    monkeypatch.setattr(preparation, "locked", no_lock)
    assert data.prepare("tiny", cache=tmp_path / "c", offline=True) == folder


def test_offline_variable_can_be_off(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, off in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv("HARNESS_OFFLINE", value)
        assert obtain.network_is_off() is off


def test_ids_changed_in_place_are_rebuilt_before_they_are_used(tmp_path: Path) -> None:
    spec = {"kind": "markov", "order": 1, "symbols": 4, "train": 300, "valid": 100, "test": 100}
    folder = data.prepare(spec, cache=tmp_path)
    right = (folder / "test.bin").read_bytes()
    (folder / "test.bin").write_bytes(bytes(len(right)))
    assert data.prepare(spec, cache=tmp_path) == folder
    assert (folder / "test.bin").read_bytes() == right
