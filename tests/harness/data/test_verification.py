"""verify, import, list and where."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import data
from harness.core.errors import DataError
from harness.data.registry import Dataset, RemoteFile

BODY = bytes(range(7)) * 40
Register = Callable[[Dataset], Dataset]
Row = Callable[..., Dataset]


def zipped(path: Path, body: bytes) -> RemoteFile:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/tiny.bin", body)
    content = path.read_bytes()
    return RemoteFile(filename="tiny.zip", size=len(content), sha256=hashlib.sha256(content).hexdigest())


def test_import_takes_a_file_of_any_name(tmp_path: Path, register: Register, tiny_row: Row) -> None:
    register(tiny_row(BODY))
    (tmp_path / "download (1)").write_bytes(BODY)
    report = data.import_file("tiny", tmp_path / "download (1)", cache=tmp_path / "c")
    assert report["imported"] == ["tiny.bin"]
    assert report["missing"] == []
    assert report["manifest"]["counts"]["train"] == {"tokens": 140, "units": 140}
    assert (tmp_path / "c" / "raw" / "tiny" / "tiny.bin").read_bytes() == BODY
    assert (tmp_path / "download (1)").read_bytes() == BODY
    (tmp_path / "download (1)").unlink()
    assert data.verify("tiny", cache=tmp_path / "c")["ok"]


def test_import_takes_the_archive_or_a_folder(tmp_path: Path, register: Register, tiny_row: Row) -> None:
    register(tiny_row(BODY, archive=zipped(tmp_path / "tiny.zip", BODY)))
    report = data.import_file("tiny", tmp_path / "tiny.zip", cache=tmp_path / "c")
    assert report["imported"] == ["tiny.zip"]
    assert Path(report["prepared"]).is_dir()
    assert data.import_file("tiny", tmp_path, cache=tmp_path / "d")["imported"] == ["tiny.zip"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds none of tiny's files: tiny\.bin, tiny\.zip"):
        data.import_file("tiny", tmp_path / "empty", cache=tmp_path / "d")


@pytest.mark.parametrize("body", [BODY[::-1], BODY + b"x", b""])
def test_import_refuses_other_content_by_name(tmp_path: Path, register: Register, tiny_row: Row, body: bytes) -> None:
    register(tiny_row(BODY))
    (tmp_path / "tiny.bin").write_bytes(body)
    with pytest.raises(DataError) as error:
        data.import_file("tiny", tmp_path / "tiny.bin", cache=tmp_path / "c")
    text = str(error.value)
    assert f"{tmp_path / 'tiny.bin'} is not tiny's data" in text
    assert hashlib.sha256(BODY).hexdigest() in text
    assert (f"{len(body):,} bytes" if len(body) != len(BODY) else hashlib.sha256(body).hexdigest()) in text
    assert not [path for path in (tmp_path / "c").rglob("*.bin") if path.is_file()]
    assert not list((tmp_path / "c").rglob(".import*"))


def test_import_of_a_part_says_what_is_missing(ptb_folder: Path, tmp_path: Path) -> None:
    report = data.import_file("ptb-char", ptb_folder / "ptb.valid.txt", cache=tmp_path)
    assert report["missing"] == ["ptb.train.txt", "ptb.test.txt"]
    assert report["prepared"] is None
    assert data.import_file("ptb-char", ptb_folder, cache=tmp_path)["manifest"]["alphabet_size"] == 50


def test_import_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        data.import_file("enwik8", tmp_path / "none", cache=tmp_path)
    with pytest.raises(ValueError, match="Did you mean 'enwik8'"):
        data.import_file("enwik9", tmp_path / "none", cache=tmp_path)


def test_verify_reads_every_byte_and_rebuilds(tmp_path: Path, register: Register, tiny_row: Row) -> None:
    register(tiny_row(BODY))
    (tmp_path / "tiny.bin").write_bytes(BODY)
    where = {"roots": [tmp_path], "cache": tmp_path / "c"}
    folder = data.prepare("tiny", **where)
    good = (folder / "valid.bin").read_bytes()
    (folder / "valid.bin").write_bytes(good[::-1])
    report = data.verify("tiny", **where, repair=False)
    assert not report["ok"]
    assert report["damage"][0].startswith("valid.bin: expected sha256")
    assert not report["rebuilt"]
    report = data.verify("tiny", **where)
    assert (report["ok"], report["rebuilt"]) == (True, True)
    assert (folder / "valid.bin").read_bytes() == good
    assert data.verify("tiny", **where)["damage"] == []


def test_verify_names_a_wrong_source(tmp_path: Path, register: Register, tiny_row: Row) -> None:
    register(tiny_row(BODY))
    (tmp_path / "tiny.bin").write_bytes(BODY[::-1])
    report = data.verify("tiny", roots=[tmp_path], cache=tmp_path / "c")
    assert not report["ok"]
    assert "expected sha256" in report["sources"][0]["problem"]


def test_verify_damage_without_sources(tmp_path: Path, register: Register, tiny_row: Row) -> None:
    register(tiny_row(BODY))
    (tmp_path / "tiny.bin").write_bytes(BODY)
    folder = data.prepare("tiny", roots=[tmp_path], cache=tmp_path / "c")
    (folder / "test.bin").unlink()
    report = data.verify("tiny", cache=tmp_path / "c")
    assert not report["ok"]
    assert "harness data import tiny" in report["problem"]


def test_verify_of_nothing(tmp_path: Path) -> None:
    report = data.verify("enwik8", cache=tmp_path)
    assert not report["ok"]
    assert "neither prepared nor found" in report["problem"]


def test_verify_own_text(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(BODY)
    spec = {"kind": "bytes", "file": "x.txt", "fractions": [0.8, 0.1, 0.1]}
    data.prepare(spec, base=tmp_path, cache=tmp_path / "c")
    assert data.verify(spec, base=tmp_path, cache=tmp_path / "c")["ok"]


def test_the_list_says_where_each_dataset_stands(
    tmp_path: Path, register: Register, tiny_row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HARNESS_OFFLINE", raising=False)
    register(tiny_row(BODY))

    def state(name: str, roots: list[Path]) -> str:
        (row,) = [row for row in data.list_rows(roots, cache=tmp_path / "c") if row["name"] == name]
        return str(row["where"])

    assert state("tiny", []) == "missing"
    assert state("hutter-prize", []) == "download"
    assert data.where("enwik8", cache=tmp_path / "c") == "to be downloaded from mattmahoney.net (36.4 MB)"
    monkeypatch.setenv("HARNESS_OFFLINE", "1")
    assert state("text8", []) == "missing"
    assert "harness data import" in data.where("text8", cache=tmp_path / "c")
    (tmp_path / "tiny.bin").write_bytes(BODY)
    assert state("tiny", [tmp_path]) == "found"
    assert data.where("tiny", [tmp_path], cache=tmp_path / "c") == f"found in {tmp_path}"
    data.prepare("tiny", roots=[tmp_path], cache=tmp_path / "c")
    assert state("tiny", []) == "prepared"
    titles = {row["name"]: row["title"] for row in data.list_rows(cache=tmp_path / "c")}
    assert titles["hutter-prize"] == "Hutter Prize"


def test_where_of_own_text_and_of_a_source(tmp_path: Path) -> None:
    spec = {"kind": "bytes", "file": "x.txt", "fractions": [0.8, 0.1, 0.1]}
    missing = data.where(spec, base=tmp_path, cache=tmp_path / "c")
    assert missing.startswith("missing: no file x.txt")
    assert missing.endswith("; --data or HARNESS_DATA names more folders to look in")
    absolute = data.where({**spec, "file": "/nowhere/x.txt"}, base=tmp_path, cache=tmp_path / "c")
    assert absolute == "missing: no file /nowhere/x.txt: looked at /nowhere/x.txt"
    (tmp_path / "x.txt").write_bytes(BODY)
    assert data.where(spec, base=tmp_path, cache=tmp_path / "c") == f"found: {tmp_path / 'x.txt'}"
    data.prepare(spec, base=tmp_path, cache=tmp_path / "c")
    assert data.where(spec, base=tmp_path, cache=tmp_path / "c").startswith("prepared in ")
    assert data.where({"kind": "markov"}, cache=tmp_path / "c") == "generated here, no files needed"


def test_search_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", f"{tmp_path}:/not/there:")
    assert data.search_roots() == (tmp_path, Path("/not/there"))
    assert data.search_roots("/") == (Path("/"),)
    with pytest.raises(DataError, match="--data: /not/there is not a folder"):
        data.search_roots("/not/there")
    monkeypatch.delenv("HARNESS_DATA")
    assert data.search_roots() == ()


def test_a_folder_that_may_not_be_entered_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "enwik8").write_bytes(b"")
    is_file = Path.is_file

    def closed(path: Path) -> bool:
        if path.parent.name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", closed)
    with pytest.raises(DataError, match="expected 100,000,000 bytes, got 0"):
        data.prepare("enwik8", roots=[tmp_path], cache=tmp_path / "c", offline=True)


def test_the_cache_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    assert data.cache_folder() == tmp_path
    monkeypatch.delenv("HARNESS_CACHE")
    assert data.cache_folder().name == "lm-harness"
