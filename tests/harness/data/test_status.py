"""The list, `where`, `verify` and `import_file`; the search path; what follows from a new line in DATASETS."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tiny_datasets import BODY, Register, byte_dataset, own, refusal, sha256, word_dataset, write_splits, zip_file

from harness import data
from harness.commands import doctor
from harness.commands.main import main
from harness.data import status
from harness.suite import load
from harness.suite.schema import schema


def test_verify_reads_every_byte_and_rebuilds(tiny: Path) -> None:
    notes: list[str] = []
    verify = partial(status.verify, "tiny", roots=[tiny.parent], note=notes.append)
    folder = data.prepare("tiny", roots=[tiny.parent])
    right = (folder / "valid.bin").read_bytes()
    (folder / "valid.bin").write_bytes(right[::-1])
    result = verify()
    assert result.damage[0].startswith("valid.bin: expected sha256")
    assert (result.ok, result.rebuilt, result.prepared) == (True, True, str(folder))
    assert (folder / "valid.bin").read_bytes() == right
    assert notes == [f"{folder} was rebuilt: {result.damage[0]}"]
    again = verify()
    assert (again.damage, again.rebuilt) == ([], False)
    assert len(notes) == 1
    tiny.write_bytes(BODY[::-1])
    result = verify()
    assert (result.ok, "expected sha256" in str(result.sources[0].problem)) == (False, True)
    tiny.unlink()
    (folder / "test.bin").unlink()
    result = verify()
    assert (result.ok, f"{folder} is damaged" in str(result.problem)) == (False, True)
    assert "harness data import tiny" in str(result.problem)
    result = status.verify("enwik8")
    assert (result.ok, "neither prepared nor found" in str(result.problem)) == (False, True)


@pytest.mark.parametrize("closed", [".", "tiny"])
def test_a_folder_that_may_not_be_entered_is_said_and_not_taken_for_one_without_the_data(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    monkeypatch.setenv("HARNESS_OFFLINE", "1")
    root, real = tmp_path / "root", Path.stat
    (root / closed).mkdir(parents=True)

    def stat(path: Path, **how: Any) -> os.stat_result:
        # As a folder without the right x has it; root, who may run the tests, has every right.
        if path.is_relative_to(root / closed) and path != root / closed:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **how)

    monkeypatch.setattr(Path, "stat", stat)
    said = f"{root / closed / 'tiny.bin' if closed == 'tiny' else root / 'tiny.bin'}: Permission denied"
    assert status.where("tiny", [root]) == said
    assert {row.where for row in status.list_rows([root]) if row.name == "tiny"} == {"unreadable"}
    assert status.verify("tiny", roots=[root]).problem == said
    assert refusal(lambda: data.prepare("tiny", roots=[root])).startswith(f"{said}; elsewhere tiny is not here")
    # Where the files are found elsewhere, nobody needs that folder.
    assert data.prepare("tiny", roots=[root, tiny.parent]).is_dir()


def test_where_the_data_is(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_OFFLINE", raising=False)
    folder = tiny.parent

    def where(name: str, *roots: Path) -> tuple[str, str]:
        return {row.name: row.where for row in status.list_rows(roots)}[name], status.where(name, roots)

    advice = "; `harness data import tiny PATH` takes the file"
    assert where("tiny") == ("missing", f"missing, and no server has it{advice}")
    assert where("enwik8") == ("download", "to be downloaded from mattmahoney.net (36.4 MB)")
    monkeypatch.setenv("HARNESS_OFFLINE", "1")
    assert where("text8")[1].startswith("missing, and the network is off; `harness data import text8")
    assert where("tiny", folder) == ("found", f"found in {folder}")
    tiny.write_bytes(BODY[:-1])
    state, phrase = where("tiny", folder)
    assert (state, phrase.startswith(f"damaged: {tiny} has {len(BODY) - 1:,} bytes, ")) == ("damaged", True)
    [check] = [check for check in doctor.examine([folder]) if check.name == "data tiny"]
    assert (check.status, check.detail) == ("error", phrase)
    tiny.write_bytes(BODY)
    prepared = data.prepare("tiny", roots=[folder])
    assert where("tiny") == ("prepared", f"prepared in {prepared}")

    hint = "; --data or HARNESS_DATA names more folders to look in"
    assert status.where(own("y"), base=folder) == f"missing: no file y: looked at {folder / 'y'}{hint}"
    assert status.where(own("/nowhere/y")) == "missing: no file /nowhere/y: looked at /nowhere/y"
    assert status.where(own("x.txt"), base=folder) == f"found: {folder / 'x.txt'}"
    prepared = data.prepare(own("x.txt"), base=folder)
    assert status.where(own("x.txt"), base=folder) == f"prepared in {prepared}"
    assert status.verify(own("x.txt"), base=folder).ok
    assert status.where({"kind": "markov"}) == "generated here, no files needed"


@pytest.mark.parametrize(("size", "state"), [(1_142_309, "download"), (1_142_308, "damaged")])
def test_an_intact_file_of_another_dataset_is_not_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, state: str
) -> None:
    """WikiText-103's valid file has the name of WikiText-2's: only another size than either is damage."""
    monkeypatch.delenv("HARNESS_OFFLINE", raising=False)
    with (tmp_path / "wiki.valid.tokens").open("wb") as file:
        file.truncate(size)
    assert {row.name: row.where for row in status.list_rows([tmp_path])}["wikitext-2"] == state


def test_search_path_and_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", f"{tmp_path}:/not/there:")
    assert "HARNESS_DATA: /not/there is not a folder" in refusal(data.search_roots)
    monkeypatch.setenv("HARNESS_DATA", f"{tmp_path}:")
    assert data.search_roots() == (tmp_path,)
    assert data.search_roots("/") == (Path("/"),)
    assert "--data: /not/there is not a folder" in refusal(lambda: data.search_roots("/not/there"))
    monkeypatch.delenv("HARNESS_DATA")
    assert data.search_roots() == ()
    monkeypatch.delenv("HARNESS_CACHE")
    assert data.cache_folder().name == "lm-harness"


def test_a_folder_that_may_not_be_entered_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_splits(tmp_path / "open", {"enwik8": b""}, "{}")
    (tmp_path / "closed").mkdir()
    stat = os.stat

    def closed(path: Any, **options: Any) -> os.stat_result:
        if "closed/" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", closed)
    assert "expected 100,000,000 bytes, got 0" in refusal(lambda: data.prepare("enwik8", roots=[tmp_path]))


def test_import_of_a_file_with_any_name_an_archive_or_a_folder(tmp_path: Path, register: Register) -> None:
    register(byte_dataset(BODY, archive=zip_file(tmp_path / "tiny.zip", {"folder/tiny.bin": BODY})))
    path = write_splits(tmp_path / "brought", {"download (1)": BODY}, "{}") / "download (1)"
    for each, name in ((tmp_path / "tiny.zip", "tiny.zip"), (tmp_path, "tiny.zip"), (path, "tiny.bin")):
        report = status.import_file("tiny", each)
        assert (report.imported, report.missing) == ([name], [])
    assert report.as_json()["manifest"]["counts"]["train"] == {"tokens": 140, "units": 140}
    assert (data.cache_folder() / "raw" / "tiny" / "tiny.bin").read_bytes() == path.read_bytes() == BODY

    bodies = {"train": b"a b\n", "valid": b"a\n", "test": b"b a\n"}
    register(word_dataset(bodies))
    folder = write_splits(tmp_path / "brought", bodies, "wiki.{}.tokens")
    report = status.import_file("tiny-words", folder / "wiki.valid.tokens")
    assert (report.missing, report.prepared) == (["wiki.train.tokens", "wiki.test.tokens"], None)
    assert status.import_file("tiny-words", folder).prepared is not None
    (folder / "wiki.test.tokens").write_bytes(b"c a\n")
    assert "for wiki.test.tokens (4 bytes, sha1 " in refusal(lambda: status.import_file("tiny-words", folder))


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("tiny", BODY[::-1], f"tiny.bin is not tiny's data: for tiny.bin (280 bytes, sha256 {sha256(BODY)}), expected"),
        ("tiny", BODY[::-1], f"got {sha256(BODY[::-1])};"),
        ("tiny", BODY + b"x", "expected 280 bytes, got 281; nothing was imported"),
        ("tiny", None, "/tiny.bin to import as tiny"),
        ("enwik9", None, "Did you mean 'enwik8'"),
    ],
)
def test_refused_imports(tmp_path: Path, register: Register, name: str, body: bytes | None, message: str) -> None:
    register(byte_dataset(BODY))
    assert "holds none of tiny's files: tiny.bin" in refusal(lambda: status.import_file("tiny", tmp_path))
    if body is not None:
        (tmp_path / "tiny.bin").write_bytes(body)
    assert message in refusal(lambda: status.import_file(name, tmp_path / "tiny.bin"))
    assert not [path for path in (data.cache_folder() / "raw").rglob("*") if path.is_file()]


SUITE = """
suite: mine
dataset: little
metrics: [bpc]
entries: {lstm: {model: {builder: awd-lstm, layers: 1, hidden: 8, embedding: 8}, recipe: {optimizer: adam, lr: 1e-3,
  batch: 2, bptt: 5, epochs: 1}}}
"""


def test_commands_schema_and_suites_know_a_new_entry_and_its_alias(tmp_path: Path, register: Register) -> None:
    register(replace(byte_dataset(BODY), alias_titles={"little": "The Little One"}))
    (tmp_path / "tiny.bin").write_bytes(BODY)

    def rows(*command: str) -> dict[str, dict[str, object]]:
        done = CliRunner().invoke(main, [*command, "--json"], catch_exceptions=False)
        return {row["name"]: row for row in json.loads(done.stdout)}

    table, status = rows("list", "datasets"), rows("data", "list", "--data", str(tmp_path))
    counts = {"vocabulary": 7, "train tokens": 140, "valid tokens": 70, "test tokens": 70}
    for name, title in (("tiny", "Tiny"), ("little", "The Little One")):
        assert table[name] == {"name": name, "title": title, "unit": "byte", **counts}
        assert (status[name]["title"], status[name]["where"]) == (title, "found")
        assert name in schema()["properties"]["dataset"]["anyOf"][0]["enum"]
    (tmp_path / "mine.yaml").write_text(SUITE)
    assert load(tmp_path / "mine.yaml").dataset_title == "The Little One"
    assert data.identify("little") == data.identify("tiny")
    assert data.prepare("little", roots=[tmp_path]) == data.prepare("tiny", roots=[tmp_path])
