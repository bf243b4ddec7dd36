"""Datasets of a few bytes, and short ways to ask for them."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness import data
from harness.core.errors import DataError
from harness.data.registry import SPLITS, Dataset, Encoding, SourceFile
from harness.data.text import WORDS_EVENT_SPACE, characters

BODY = bytes(range(7)) * 40
Register = Callable[[Dataset], Dataset]  # the fixture `register`


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def own(path: Path | str, kind: str = "bytes", **more: Any) -> dict[str, Any]:
    return {"kind": kind, "file": str(path), "fractions": [0.8, 0.1, 0.1], **more}


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as error:
        call()
    # A dataset that is not here is a few short lines; anything else is one.
    assert "\n" not in str(error.value) or "cannot be downloaded:" in str(error.value)
    return str(error.value)


def official_tokens(text: bytes) -> list[str]:
    """The tokens of a file as awd-lstm-lm's data.py reads it."""
    return [word for line in io.TextIOWrapper(io.BytesIO(text), encoding="utf-8") for word in [*line.split(), "<eos>"]]


def place_not_utf8(body: bytes) -> str | None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        line = 1 + body[: error.start].count(b"\n")
        return f"byte {error.start} in line {line}"
    return None


def bodies_of(encoding: Encoding) -> dict[str, list[str]]:
    """The tokens per split of an encoding, which is consumed."""
    return {
        split: [encoding.vocabulary[token] for chunk in chunks for token in chunk.tolist()]
        for split, chunks in encoding.splits.items()
    }


def tokens_of(folder: Path) -> list[str]:
    corpus = data.load(folder)
    return [corpus.vocabulary[token] for split in SPLITS for token in corpus.splits[split]]


def bytes_of(folder: Path) -> bytes:
    return bytes(int(token) for token in tokens_of(folder))


def write_splits(folder: Path, bodies: Mapping[str, bytes], pattern: str = "{}.txt") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, body in bodies.items():
        (folder / pattern.format(split)).write_bytes(body)
    return folder


def zip_file(path: Path, members: Mapping[str, bytes], *urls: str) -> SourceFile:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    content = path.read_bytes()
    return SourceFile(filename=path.name, size=len(content), sha256=sha256(content), urls=urls)


def byte_dataset(body: bytes, *, urls: tuple[str, ...] = (), archive: SourceFile | None = None) -> Dataset:
    """A dataset like enwik8, called tiny: the first half of tiny.bin trains, then two quarters."""
    quarter = len(body) // 4
    sizes = {"train": len(body) - 2 * quarter, "valid": quarter, "test": quarter}
    member = "folder/tiny.bin" if archive is not None else None
    source = SourceFile(
        filename="tiny.bin", size=len(body), sha256=sha256(body), urls=urls, archive=archive, member=member
    )
    return Dataset(
        name="tiny", title="Tiny", unit="byte", event_space="bytes", vocab_size=len(set(body)), num_tokens=sizes,
        sources=(source,),
        encode=lambda files: characters.encode_bytes(characters.cut(files["tiny.bin"], sizes), token_text=str),
    )  # fmt: skip


def word_dataset(bodies: Mapping[str, bytes], name: str = "tiny-words", archive: SourceFile | None = None) -> Dataset:
    """A dataset like WikiText-103: words, one file per split, sha1 alone."""
    files = {split: f"wiki.{split}.tokens" for split in bodies}
    sources = tuple(
        SourceFile(filename=files[split], size=len(body), sha1=hashlib.sha1(body).hexdigest(), archive=archive,
                   member=f"{name}/{files[split]}" if archive is not None else None)
        for split, body in bodies.items()
    )  # fmt: skip
    tokens = {split: official_tokens(body) for split, body in bodies.items()}
    return Dataset(
        name=name, title="Tiny", unit="word", event_space=WORDS_EVENT_SPACE, sources=sources, words=files,
        vocab_size=len(set().union(*tokens.values())), num_tokens={split: len(each) for split, each in tokens.items()},
    )  # fmt: skip
