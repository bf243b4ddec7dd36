"""Sizes and bytes of each method against its library called in one piece, and against the command-line tools."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import brotli
import pyppmd
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import HarnessError
from harness.evaluation.compressors import codecs
from harness.evaluation.compressors.codecs import compress, decompress, library
from lm_models.compressor.config import LEVELS, Config


def text(num_words: int, seed: int = 0) -> bytes:
    """Words in which later ones repeat earlier ones, as a text does."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghij ", k=rng.randint(1, 9))) for _ in range(200)]
    return " ".join(rng.choices(words, weights=range(1, 201), k=num_words)).encode()


def config(method: Any, level: int, extreme: bool = False) -> Config:
    return Config(method=method, level=level, extreme=extreme)


def zstd_in_one_piece(data: bytes) -> bytes:
    settings = zstandard.ZstdCompressionParameters.from_level(9, source_size=len(data), window_log=18)
    return zstandard.ZstdCompressor(compression_params=settings).compress(data)


def ppmd_in_one_piece(data: bytes) -> bytes:
    encoder = pyppmd.Ppmd8Encoder(6, 1 << 24)
    return encoder.encode(data) + encoder.flush()


LONG = text(33_000)
PIECE = 1 << 16
assert 1 << 17 < len(LONG) < 3 * PIECE

ONE_PIECE: list[tuple[Config, Callable[[bytes], bytes]]] = [
    (config("gzip", 6), lambda data: gzip.compress(data, 6, mtime=0)),
    (config("bzip2", 9), lambda data: bz2.compress(data, 9)),
    (config("xz", 6), lambda data: lzma.compress(data, preset=6)),
    (config("zstd", 9), zstd_in_one_piece),
    (config("brotli", 5), lambda data: brotli.compress(data, quality=5, lgwin=18)),
    (config("ppmd", 6), ppmd_in_one_piece),
]


@pytest.mark.parametrize(("method", "whole"), ONE_PIECE, ids=[each.method for each, _ in ONE_PIECE])
def test_a_file_is_as_large_as_its_librarys_own_and_gives_the_text_back(
    method: Config, whole: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codecs, "_CHUNK", PIECE)
    read: list[int] = []
    code = compress(method, LONG, read.append)
    assert len(code) == len(whole(LONG))
    assert read == [PIECE, PIECE, len(LONG) - 2 * PIECE]
    assert decompress(method, code, len(LONG)) == LONG


METHODS = [
    config("gzip", 9),
    config("bzip2", 9),
    config("xz", 6),
    config("zstd", 19),
    config("brotli", 9),
    config("ppmd", 6),
]

# Of the second text of two equal ones, what a method takes at most: gzip and bzip2 cannot reach back to the first.
REACHES_BACK = [each for each in METHODS if each.method not in ("gzip", "bzip2")]


@settings(max_examples=25, deadline=None)
@given(data=st.binary(min_size=1, max_size=3000), which=st.sampled_from(METHODS))
def test_any_bytes_come_back(data: bytes, which: Config) -> None:
    assert decompress(which, compress(which, data), len(data)) == data


@settings(max_examples=25, deadline=None)
@given(
    first=st.text("abc \n", min_size=1, max_size=2000),
    second=st.text("abc \n", min_size=1, max_size=500),
    which=st.sampled_from(METHODS),
)
def test_more_text_takes_no_fewer_bytes_but_for_the_format(first: str, second: str, which: Config) -> None:
    """A longer file may need less where a header has another form: never more than the smallest file's own bytes."""
    one, both = first.encode(), (first + second).encode()
    overhead = len(compress(which, b"a"))
    assert len(compress(which, both)) - len(compress(which, one)) >= -overhead


@pytest.mark.parametrize("which", REACHES_BACK, ids=lambda each: each.method)
def test_the_window_holds_the_whole_text(which: Config) -> None:
    """A text again after itself, farther back than the 32 KiB of gzip, costs next to nothing."""
    rng = random.Random(1)
    data = bytes(rng.randrange(256) for _ in range(100_000))
    again = len(compress(which, data + data)) - len(compress(which, data))
    assert again < 0.04 * len(data)


@pytest.mark.parametrize(
    ("command", "which", "bound"),
    [
        # The tool and zlib are different programs for one format.
        ("gzip -9", config("gzip", 9), 0.01),
        ("bzip2 -9", config("bzip2", 9), 0.0),
        ("xz -9e", config("xz", 9, True), 0.0),
    ],
)
def test_a_file_is_as_large_as_that_of_the_command_line(command: str, which: Config, bound: float) -> None:
    name, *options = command.split()
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    data = text(30_000)
    made = subprocess.run([name, *options, "-c"], input=data, capture_output=True, check=True).stdout
    code = compress(which, data)
    assert abs(len(code) - len(made)) <= bound * len(made)
    back = subprocess.run([name, "-dc"], input=code, capture_output=True, check=True).stdout
    assert back == data


@pytest.mark.parametrize("method", ["zstd", "brotli", "ppmd"])
def test_a_missing_package_is_one_line_that_names_the_extra(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setitem(__import__("sys").modules, codecs.PACKAGES[method], None)
    with pytest.raises(HarnessError, match=rf"{method} needs the package \w+: pip install 'lm-harness\[compressors\]'"):
        library(config(method, 5))


@pytest.mark.parametrize("which", METHODS, ids=lambda each: each.method)
def test_the_versions_name_python_and_the_library(which: Config) -> None:
    versions = library(which)
    assert "python" in versions
    assert len(versions) >= 2


@pytest.mark.parametrize("method", LEVELS)
def test_levels_are_bounded_by_the_method(method: Any) -> None:
    lowest, highest = LEVELS[method]
    for level in (lowest, highest):
        which = config(method, level)
        assert decompress(which, compress(which, b"some text"), 9) == b"some text"
    for level in (lowest - 1, highest + 1):
        with pytest.raises(ValueError, match=rf"level of .*{method} must be in {lowest}\.\.{highest}, got {level}"):
            config(method, level)


def test_extreme_is_of_xz_alone() -> None:
    with pytest.raises(ValueError, match="extreme is a setting of xz, not of gzip"):
        config("gzip", 9, True)
