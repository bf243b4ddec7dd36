"""verify, list and where; the search path and the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_datasets import BODY, byte_dataset, own, refusal

from harness import data
from harness.data import Dataset

Register = Callable[[Dataset], Dataset]


def test_verify_reads_every_byte_and_rebuilds(tmp_path: Path, register: Register) -> None:
    register(byte_dataset(BODY))
    (tmp_path / "tiny.bin").write_bytes(BODY)
    places: dict[str, Any] = {"roots": [tmp_path]}
    folder = data.prepare("tiny", **places)
    right = (folder / "valid.bin").read_bytes()
    (folder / "valid.bin").write_bytes(right[::-1])
    result = data.verify("tiny", **places)
    assert result.damage[0].startswith("valid.bin: expected sha256")
    assert (result.ok, result.rebuilt, result.prepared) == (True, True, str(folder))
    assert (folder / "valid.bin").read_bytes() == right
    assert data.verify("tiny", **places).damage == []
    (tmp_path / "tiny.bin").write_bytes(BODY[::-1])
    result = data.verify("tiny", **places)
    assert not result.ok
    assert "expected sha256" in str(result.sources[0].problem)
    (tmp_path / "tiny.bin").unlink()
    (folder / "test.bin").unlink()
    result = data.verify("tiny", **places)
    assert not result.ok
    assert f"{folder} is damaged" in str(result.problem)
    assert "harness data import tiny" in str(result.problem)


def test_verify_of_nothing_and_of_own_text(tmp_path: Path) -> None:
    result = data.verify("enwik8")
    assert not result.ok
    assert "neither prepared nor found" in str(result.problem)
    (tmp_path / "x.txt").write_bytes(BODY)
    data.prepare(own("x.txt"), base=tmp_path)
    assert data.verify(own("x.txt"), base=tmp_path).ok


def test_the_list_says_where_each_dataset_is(
    tmp_path: Path, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HARNESS_OFFLINE", raising=False)
    register(byte_dataset(BODY))

    def state(name: str, *roots: Path) -> str:
        return {row.name: row.where for row in data.list_rows(roots)}[name]

    def where(name: str, *roots: Path) -> str:
        return data.where(name, roots)

    assert (state("tiny"), state("hutter-prize")) == ("missing", "download")
    assert where("tiny").startswith("missing, and no server has it; `harness data import tiny")
    assert where("enwik8") == "to be downloaded from mattmahoney.net (36.4 MB)"
    monkeypatch.setenv("HARNESS_OFFLINE", "1")
    assert state("text8") == "missing"
    assert where("text8").startswith("missing, and the network is off; `harness data import text8")
    (tmp_path / "tiny.bin").write_bytes(BODY)
    assert (state("tiny", tmp_path), where("tiny", tmp_path)) == ("found", f"found in {tmp_path}")
    folder = data.prepare("tiny", roots=[tmp_path])
    assert (state("tiny"), where("tiny")) == ("prepared", f"prepared in {folder}")


def test_where_own_text_and_a_source_are(tmp_path: Path) -> None:
    def where(spec: dict[str, Any]) -> str:
        return data.where(spec, base=tmp_path)

    missing = where(own("x.txt"))
    assert missing.startswith("missing: no file x.txt")
    assert missing.endswith("; --data or HARNESS_DATA names more folders to look in")
    assert where(own("/nowhere/x.txt")) == "missing: no file /nowhere/x.txt: looked at /nowhere/x.txt"
    (tmp_path / "x.txt").write_bytes(BODY)
    assert where(own("x.txt")) == f"found: {tmp_path / 'x.txt'}"
    data.prepare(own("x.txt"), base=tmp_path)
    assert where(own("x.txt")).startswith("prepared in ")
    assert where({"kind": "markov"}) == "generated here, no files needed"


def test_search_path_and_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", f"{tmp_path}:/not/there:")
    assert data.search_roots() == (tmp_path, Path("/not/there"))
    assert data.search_roots("/") == (Path("/"),)
    assert "--data: /not/there is not a folder" in refusal(lambda: data.search_roots("/not/there"))
    monkeypatch.delenv("HARNESS_DATA")
    assert data.search_roots() == ()
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    assert data.cache_folder() == tmp_path
    monkeypatch.delenv("HARNESS_CACHE")
    assert data.cache_folder().name == "lm-harness"


def test_a_folder_that_may_not_be_entered_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "enwik8").write_bytes(b"")
    is_file = Path.is_file

    def closed(path: Path) -> bool:
        if path.parent.name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", closed)
    text = refusal(lambda: data.prepare("enwik8", roots=[tmp_path]))
    assert "expected 100,000,000 bytes, got 0" in text
