"""Files that the user brings: recognised by content, refused by name, copied into the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_datasets import BODY, byte_dataset, refusal, sha256, word_dataset, write_splits, zip_file

from harness import data
from harness.data import Dataset

Register = Callable[[Dataset], Dataset]


def test_a_file_may_have_any_name(tmp_path: Path, register: Register) -> None:
    register(byte_dataset(BODY))
    path = tmp_path / "download (1)"
    path.write_bytes(BODY)
    report = data.import_file("tiny", path)
    assert (report.imported, report.missing) == (["tiny.bin"], [])
    assert report.as_json()["manifest"]["counts"]["train"] == {"tokens": 140, "units": 140}
    assert (data.cache_folder() / "raw" / "tiny" / "tiny.bin").read_bytes() == path.read_bytes() == BODY
    path.unlink()
    assert data.verify("tiny").ok


def test_an_archive_or_a_folder(tmp_path: Path, register: Register) -> None:
    register(byte_dataset(BODY, archive=zip_file(tmp_path / "tiny.zip", {"folder/tiny.bin": BODY})))
    for path in (tmp_path / "tiny.zip", tmp_path):
        report = data.import_file("tiny", path)
        assert report.imported == ["tiny.zip"]
        assert report.prepared is not None
    (tmp_path / "empty").mkdir()
    text = refusal(lambda: data.import_file("tiny", tmp_path / "empty"))
    assert "holds none of tiny's files: tiny.bin, tiny.zip" in text


@pytest.mark.parametrize("body", [BODY[::-1], BODY + b"x", b""])
def test_other_content_is_refused_by_name(tmp_path: Path, register: Register, body: bytes) -> None:
    register(byte_dataset(BODY))
    (tmp_path / "tiny.bin").write_bytes(body)
    text = refusal(lambda: data.import_file("tiny", tmp_path / "tiny.bin"))
    assert f"{tmp_path / 'tiny.bin'} is not tiny's data: for tiny.bin (280 bytes, sha256 {sha256(BODY)}), exp" in text
    assert (f"got {len(body)};" if len(body) != len(BODY) else f"got {sha256(body)};") in text
    assert not [path for path in (data.cache_folder() / "raw").rglob("*") if path.is_file()]


def test_a_part_says_what_is_missing(tmp_path: Path, register: Register) -> None:
    bodies = {"train": b"a b\n", "valid": b"a\n", "test": b"b a\n"}
    register(word_dataset(bodies))
    folder = write_splits(tmp_path / "brought", bodies, "wiki.{}.tokens")
    report = data.import_file("tiny-words", folder / "wiki.valid.tokens")
    assert (report.missing, report.prepared) == (["wiki.train.tokens", "wiki.test.tokens"], None)
    assert data.import_file("tiny-words", folder).prepared is not None
    (folder / "wiki.test.tokens").write_bytes(b"c a\n")
    text = refusal(lambda: data.import_file("tiny-words", folder))
    assert "for wiki.test.tokens (4 bytes, sha1 " in text


def test_nothing_to_import(tmp_path: Path) -> None:
    assert "no file" in refusal(lambda: data.import_file("enwik8", tmp_path / "none"))
    text = refusal(lambda: data.import_file("enwik9", tmp_path / "none"))
    assert "Did you mean 'enwik8'" in text
