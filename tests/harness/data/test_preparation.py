"""Find, check and tokenise once; never use damaged data; what it costs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tiny_datasets import BODY, Register, byte_dataset, bytes_of, own, refusal, sha256, tokens_of, zip_file

import harness
from harness import data
from harness.core.hashing import with_digest
from harness.data import preparation
from harness.data.registry import SourceFile

if TYPE_CHECKING:
    from conftest import Site


REPOSITORY = Path(harness.__file__).parents[1]


@pytest.mark.parametrize("place", [".", "tiny", "anything", "folder"])
def test_a_source_is_found_in_any_usual_place(place: str, tmp_path: Path, register: Register) -> None:
    register(byte_dataset(BODY))
    root = tmp_path / "root"
    (root / place).mkdir(parents=True)
    (root / place / "tiny.bin").write_bytes(BODY)
    folder = data.prepare("tiny", roots=[tmp_path / "absent", root])
    assert bytes_of(folder) == BODY
    assert [path.name for path in root.rglob("*") if path.is_file()] == ["tiny.bin"]


def test_an_archive_is_unpacked_from_a_root_or_downloaded(tmp_path: Path, register: Register, site: Site) -> None:
    path = tmp_path / "root" / "zips" / "tiny.zip"
    path.parent.mkdir(parents=True)
    archive = zip_file(path, {"folder/tiny.bin": BODY}, site.url("/tiny.zip"))
    site.serve("/tiny.zip", path.read_bytes())
    register(byte_dataset(BODY, urls=(site.url("/none"),), archive=archive))
    folder = data.prepare("tiny", roots=[tmp_path / "root"])
    assert bytes_of(folder) == BODY
    assert ([each.name for each in (tmp_path / "root").rglob("*.*")], site.requests) == (["tiny.zip"], [])
    shutil.rmtree(data.cache_folder())
    names: set[str] = set()
    assert bytes_of(data.prepare("tiny", progress=lambda name, *_: names.add(name))) == BODY
    assert (names, len(site.requests)) == ({"tiny.zip"}, 2)
    shutil.rmtree(folder)
    assert data.prepare("tiny") == folder
    assert len(site.requests) == 2, "the downloaded archive is in the cache"


OFF, FAILS = "the network is off", "127.0.0.1: HTTP 404"


@pytest.mark.parametrize(("variable", "reason"), [("1", OFF), ("yes", OFF), ("0", FAILS), ("", FAILS)])
def test_the_refusal_says_what_to_bring_and_where(
    tmp_path: Path, register: Register, site: Site, monkeypatch: pytest.MonkeyPatch, variable: str, reason: str
) -> None:
    monkeypatch.setenv("HARNESS_OFFLINE", variable)
    archive = SourceFile(filename="tiny.zip", size=123_456, md5="0" * 32, urls=(site.url("/none"),))
    register(replace(byte_dataset(BODY, archive=archive), alias_titles={"little": "Little"}))
    assert refusal(lambda: data.prepare("little", roots=[tmp_path])) == (
        f"tiny is not here and cannot be downloaded:\n  {reason}\n"
        "A folder that has its files: give --data FOLDER, or set HARNESS_DATA=FOLDER\n"
        "A file that you have: harness data import tiny PATH\n"
        f"Needed: tiny.zip (123,456 bytes, md5 {'0' * 32})\n"
        f"Looked in: {tmp_path}\nLooked in: {data.cache_folder() / 'raw' / 'tiny'}"
    )
    assert (site.requests == []) == (reason == OFF)


def test_a_wrong_file_is_refused_in_a_root_and_downloaded_again_in_the_cache(
    tiny: Path, register: Register, site: Site
) -> None:
    prepare = partial(data.prepare, "tiny", roots=[tiny.parent])
    tiny.write_bytes(BODY[::-1])
    text = refusal(prepare)
    assert all(part in text for part in (str(tiny), sha256(BODY), sha256(BODY[::-1])))
    (tiny.parent / "more").mkdir()
    (tiny.parent / "more" / "tiny.bin").write_bytes(BODY)
    assert bytes_of(prepare()) == BODY
    shutil.rmtree(data.cache_folder() / "prepared")
    register(byte_dataset(BODY, urls=(site.serve("/a", BODY),)))
    raw = data.cache_folder() / "raw" / "tiny"
    raw.mkdir(parents=True)
    (raw / "tiny.bin").write_bytes(BODY[::-1])
    assert bytes_of(data.prepare("tiny")) == BODY


def change_manifest(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def restamp(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(with_digest({**manifest, **changes})))


# How a prepared folder is damaged, and what `load` says; None where only a checksum shows it.
DAMAGE: list[tuple[Callable[[Path], object], str | None]] = [
    (lambda folder: (folder / "train.bin").write_bytes(b"x"), "train.bin has 1 bytes, expected 224"),
    (lambda folder: (folder / "valid.bin").unlink(), "valid.bin: No such file"),
    (lambda folder: (folder / "test.bin").write_bytes(bytes(28)), None),
    (lambda folder: (folder / "vocabulary.json").write_text("[]"), "does not have the manifest's 7 tokens"),
    (lambda folder: (folder / "vocabulary.json").write_text("{"), "not valid JSON"),
    (lambda folder: (folder / "vocabulary.json").write_text("{}"), "is not a list of tokens"),
    (lambda folder: (folder / "manifest.json").unlink(), "manifest.json cannot be read"),
    (lambda folder: (folder / "manifest.json").write_text("[" * 99), "not valid JSON"),
    (lambda folder: (folder / "manifest.json").write_text('{"format": 1}'), "(name is missing)"),
    (lambda folder: restamp(folder, format=2), "was prepared in another format"),
    (lambda folder: change_manifest(folder, dtype="uint9"), "(dtype must be 'uint8', 'uint16'"),
    (
        lambda folder: change_manifest(folder, limits={"bpc": float("inf")}),
        "(Infinity is not a number",
    ),
    (lambda folder: change_manifest(folder, counts={"train": {"tokens": 1, "units": 1}}), "valid is missing"),
    (lambda folder: change_manifest(folder, limits={"bpc": 1.5}), "does not fit its digest"),
    (lambda folder: restamp(folder, dtype="uint16"), "ids of 7 tokens are not of uint16"),
    (lambda folder: restamp(folder, alphabet_size=2**40), "alphabet_size is not valid"),
    (lambda folder: change_manifest(folder, counts={"test": {"tokens": "1"}}), "counts.test.tokens must be"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_a_damaged_folder_is_refused_and_rebuilt(tiny: Path, damage: Callable[..., object], message: Any) -> None:
    spec = own(tiny.with_name("x.txt"))
    folder = data.prepare(spec)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    damage(folder)
    if message is not None:
        text = refusal(lambda: data.load(folder))
        assert (message in text, "run `harness data prepare`" in text) == (True, True)
    (folder.parent / f".{folder.name}-new").mkdir()  # left by a killed process
    notes: list[str] = []
    assert data.prepare(spec, note=notes.append) == folder
    assert [note.partition(": ")[0] for note in notes] == [f"{folder} was rebuilt"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_keys_of_a_newer_version_are_kept(tiny: Path) -> None:
    folder = data.prepare(own(tiny.with_name("x.txt")))
    counts = {split: {**each, "lines": 1} for split, each in data.load(folder).manifest["counts"].items()}
    restamp(folder, counts=counts, later={"a": [None]})
    assert data.load(folder).manifest == json.loads((folder / "manifest.json").read_text())


def test_other_counts_than_the_entrys_are_refused(tiny: Path, register: Register) -> None:
    prepare = partial(data.prepare, "tiny", roots=[tiny.parent])
    register(replace(byte_dataset(BODY), num_tokens={"train": 1, "valid": 2, "test": 3}))
    assert "140 tokens in train, expected 1" in refusal(prepare)
    register(replace(byte_dataset(BODY), vocab_size=9))
    assert "7 different tokens, expected 9" in refusal(prepare)


def test_a_cache_that_cannot_be_written(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tiny))
    assert "set HARNESS_CACHE" in refusal(lambda: data.prepare(own(tiny.with_name("x.txt"))))


def test_three_processes_at_once_make_one_folder(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(BODY * 2000)
    code = "import json, sys; from harness import data; print(data.prepare(json.loads(sys.argv[1])))"
    command = [sys.executable, "-c", code, json.dumps(own(tmp_path / "x.txt", "chars"))]
    running = [subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    (answer,) = {process.communicate(timeout=60)[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert "".join(tokens_of(Path(answer.strip()))).encode() == BODY * 2000
    assert len(list((data.cache_folder() / "prepared").iterdir())) == 1


def test_a_prepared_dataset_needs_no_sources_and_no_writing(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert data.find_prepared("tiny") is None
    folder = data.prepare("tiny", roots=[tiny.parent])
    tiny.unlink()
    monkeypatch.setattr(preparation, "locked", None)  # a lock is a write
    assert data.prepare("tiny") == folder
    assert data.find_prepared("tiny") == folder
    assert data.read_manifest(folder).num_tokens == {"train": 140, "valid": 70, "test": 70}


# Imports, seconds of CPU time and memory, measured in separate processes.
NAMING = 'data.facts("enwik8"), data.identify("ptb-char"), data.parse("text8")'
PREPARING = """
from harness.evaluation import streams
data.load(data.prepare({"kind": "markov", "train": 9, "valid": 9, "test": 9}))"""
HEAVY = ["torch", "httpx", "rich", "pandas", "pyarrow"]
COST = """
import resource, time
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
counts = data.read_manifest(data.prepare(json.loads(sys.argv[1]))).num_tokens
seconds, after = time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([counts, seconds, (after - before) / 1024]))
"""


def run(code: str, *arguments: str) -> Any:
    command = [sys.executable, "-c", f"import json, sys\nfrom harness import data\n{code}", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("code", "heavy"), [(NAMING, [*HEAVY, "numpy", "pydantic", "platformdirs", "filelock"]), (PREPARING, HEAVY)]
)
def test_imports(code: str, heavy: list[str]) -> None:
    assert run(f"{code}\nprint(json.dumps([name for name in {heavy} if name in sys.modules]))") == []


@pytest.mark.parametrize("size", [2_000_000, pytest.param(100_000_000, marks=pytest.mark.slow)])
def test_bytes_like_enwik8(tmp_path: Path, size: int) -> None:
    # 205 different bytes, as in enwik8, with falling frequencies.
    table = np.minimum(np.random.default_rng(1).geometric(0.03, size=1 << 20), 205).astype(np.uint8)
    (tmp_path / "x").write_bytes((table.tobytes() * (size // len(table) + 1))[:size])
    counts, seconds, mib = run(COST, json.dumps(own(tmp_path / "x", fractions=[0.9, 0.05, 0.05])))
    assert counts == {"train": size * 9 // 10, "valid": size // 20, "test": size // 20}
    assert (seconds < 5, mib < 500) == (True, True)
