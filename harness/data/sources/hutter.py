"""The first 10^8 bytes of Wikipedia: enwik8, the Hutter Prize's data, and its cleaned form text8 (Mahoney)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from harness.data.registry import Dataset, Encoding, SourceFile

# The cut that published results on both texts use.
SPLIT_BYTES = {"train": 90_000_000, "valid": 5_000_000, "test": 5_000_000}


def _encode(files: Mapping[str, Path], *, filename: str, token_text: Callable[[int], str]) -> Encoding:
    from harness.data.text import characters  # here, as it needs numpy

    return characters.encode_bytes(characters.cut(files[filename], SPLIT_BYTES), token_text=token_text)


ENWIK8 = Dataset(
    name="enwik8", title="enwik8", unit="byte",
    event_space="one token per byte; newlines and markup kept; nothing added at a line's end",
    vocab_size=205, num_tokens=SPLIT_BYTES,
    sources=(
        SourceFile(
            filename="enwik8", size=100_000_000,
            sha256="2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8",
            member="enwik8",
            archive=SourceFile(
                filename="enwik8.zip", size=36_445_475,
                sha256="547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc",
                urls=(
                    "https://mattmahoney.net/dc/enwik8.zip",
                    "http://mattmahoney.net/dc/enwik8.zip",
                    "https://data.deepai.org/enwik8.zip",
                ),
            ),
        ),
    ),
    # A byte is named by its number: most bytes are no character by themselves.
    encode=partial(_encode, filename="enwik8", token_text=str),
    alias_titles={"hutter-prize": "Hutter Prize"},
)  # fmt: skip

TEXT8 = Dataset(
    name="text8", title="text8", unit="char",
    event_space="one token per character: a to z and the space; there are no lines",
    vocab_size=27, num_tokens=SPLIT_BYTES,
    sources=(
        SourceFile(
            filename="text8", size=100_000_000,
            # From Mahoney's page, which gives no other; the archive's sha256 is checked before it is opened.
            md5="3bea1919949baf155f99411df5fada7e",
            member="text8",
            archive=SourceFile(
                filename="text8.zip", size=31_344_016,
                sha256="a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232",
                urls=("https://mattmahoney.net/dc/text8.zip", "http://mattmahoney.net/dc/text8.zip"),
            ),
        ),
    ),
    encode=partial(_encode, filename="text8", token_text=chr),
)  # fmt: skip
