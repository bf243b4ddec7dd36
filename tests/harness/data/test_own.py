"""The user's own text: looked up, named, and known by its content."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import data
from harness.core.errors import DataError
from harness.data import preparation

BODY = bytes(range(7)) * 40


def own(path: Path | str, kind: str = "bytes", **more: Any) -> dict[str, Any]:
    return {"kind": kind, "file": str(path), "fractions": [0.8, 0.1, 0.1], **more}


def message(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def bytes_of(folder: Path) -> bytes:
    corpus = data.load(folder)
    ids = np.concatenate([corpus.splits[split] for split in ("train", "valid", "test")])
    return bytes(int(corpus.vocabulary[token]) for token in ids)


def test_the_key_is_content_not_path_or_time(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "book.txt", tmp_path / "b" / "book.txt"
    for path in (first, second):
        path.parent.mkdir()
        path.write_bytes(BODY)
    cache = tmp_path / "cache"
    folder = data.prepare(own(first), cache=cache)
    assert data.prepare(own(second), cache=cache) == folder
    assert folder.name.startswith("book-")
    status = second.stat()
    second.write_bytes(BODY[:-1] + b"x")
    os.utime(second, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert data.prepare(own(second), cache=cache) != folder
    assert data.prepare({**own(first), "fractions": [0.5, 0.25, 0.25]}, cache=cache) != folder
    assert data.prepare(own(first, "chars"), cache=cache) != folder
    assert str(tmp_path) not in json.dumps(data.identify(own(first)))
    assert str(tmp_path) not in (folder / "manifest.json").read_text()


def test_own_files_are_looked_up_from_the_suite_then_the_roots(tmp_path: Path) -> None:
    base, root = tmp_path / "suites", tmp_path / "root"
    base.mkdir()
    root.mkdir()
    (root / "x.txt").write_bytes(BODY)
    spec = own("x.txt")
    assert bytes_of(data.prepare(spec, roots=[root], base=base, cache=tmp_path / "c")) == BODY
    (base / "x.txt").write_bytes(BODY[::-1])
    assert bytes_of(data.prepare(spec, roots=[root], base=base, cache=tmp_path / "c")) == BODY[::-1]
    text = message(lambda: data.identify(own("y.txt"), roots=[root], base=base))
    assert str(base / "y.txt") in text
    assert str(root / "y.txt") in text
    assert "is a folder" in message(lambda: data.identify(own(base)))


def test_three_files_of_characters(tmp_path: Path) -> None:
    texts = {"train": "ein Würfel\nfällt\n", "valid": "né 😀", "test": "zz"}
    for split, text in texts.items():
        (tmp_path / f"{split}.txt").write_text(text, encoding="utf-8", newline="")
    spec = {"kind": "chars", "name": "mine", **{split: f"{split}.txt" for split in texts}}
    corpus = data.load(data.prepare(spec, base=tmp_path, cache=tmp_path / "c"))
    assert (corpus.name, corpus.unit) == ("mine", "char")
    for split, text in texts.items():
        assert "".join(corpus.vocabulary[token] for token in corpus.splits[split]) == text
        assert corpus.num_units[split] == len(text)
    assert corpus.manifest["alphabet_size"] == len(set("".join(texts.values())))
    assert "newlines kept" in corpus.manifest["event_space"]
    with pytest.raises(ValueError, match="read-only"):
        corpus.splits["train"][0] = 1


def test_wide_vocabularies_get_wide_ids(tmp_path: Path) -> None:
    (tmp_path / "wide.txt").write_text("".join(chr(0x3400 + index) for index in range(3000)), encoding="utf-8")
    corpus = data.load(data.prepare(own("wide.txt", "chars"), base=tmp_path, cache=tmp_path / "c"))
    assert corpus.manifest["dtype"] == "uint16"
    assert corpus.splits["test"].tolist() == list(range(2700, 3000))


@pytest.mark.parametrize("body", [b"", b"abcdefghij"])
def test_a_split_too_short_is_refused(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "short.txt").write_bytes(body)
    text = message(lambda: data.prepare(own("short.txt"), base=tmp_path, cache=tmp_path / "c"))
    assert "short: the" in text
    assert "at least 2" in text
    assert not list((tmp_path / "c" / "prepared").iterdir())


def test_a_registered_name_is_not_lent_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "enwik8").write_bytes(BODY)
    assert "under the name enwik8" in message(lambda: data.identify(own(tmp_path / "enwik8")))
    assert data.identify(own(tmp_path / "enwik8", name="my-sample"))["name"] == "my-sample"


def test_a_file_edited_while_it_is_read_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(BODY)
    encode = preparation.own_text.encode

    def edit_then_encode(*arguments: Any) -> Any:
        path.write_bytes(BODY + b"more")
        return encode(*arguments)

    monkeypatch.setattr(preparation.own_text, "encode", edit_then_encode)
    assert "changed while it was read" in message(lambda: data.prepare(own(path), cache=tmp_path / "c"))
    assert not list((tmp_path / "c" / "prepared").iterdir())
