"""The format: a file that is not as it was written is refused with a line, and a header asks for no memory."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest

from harness.core.errors import DataError
from harness.evaluation.coding import container
from harness.evaluation.coding.settings import Settings

SETTINGS = Settings("0" * 64, "float32", "torch", "cpu", "x86_64 AVX2", 1, "2.13.0", "0.5.0")
CONTENT = b"a text of some bytes"


@pytest.fixture
def file() -> bytes:
    words = np.arange(5, dtype=np.uint32)
    return container.pack(SETTINGS, CONTENT, words, b"rest", num_tokens=20, streams=3, start=1)


def with_header(file: bytes, **changes: Any) -> bytes:
    magic, line, rest = file[:-32].split(b"\n", 2)
    body = magic + b"\n" + json.dumps({**json.loads(line), **changes}).encode() + b"\n" + rest
    return body + hashlib.sha256(body).digest()


def test_a_file_has_its_parts(file: bytes) -> None:
    coded = container.unpack(file)
    assert coded.header.settings == SETTINGS
    assert (coded.header.num_tokens, coded.header.streams, coded.header.start) == (20, 3, 1)
    assert coded.words.tolist() == [0, 1, 2, 3, 4]
    assert coded.residual == b"rest"
    container.check_content(CONTENT, coded.header)
    assert container.unpack(with_header(file)) is not None


@pytest.mark.parametrize("other", [b"", CONTENT[:-1], CONTENT + b"\n", CONTENT.upper()])
def test_another_content_is_refused(other: bytes, file: bytes) -> None:
    with pytest.raises(DataError, match="differs"):
        container.check_content(other, container.unpack(file).header)


def test_a_change_of_any_byte_is_refused(file: bytes) -> None:
    for place in range(len(file)):
        for change in (0x01, 0x80, 0xFF):
            changed = file[:place] + bytes([file[place] ^ change]) + file[place + 1 :]
            with pytest.raises(DataError):
                container.unpack(changed)


def test_a_file_of_another_length_is_refused(file: bytes) -> None:
    for end in range(len(file)):
        with pytest.raises(DataError):
            container.unpack(file[:end])
    for more in (b"\0", b"\n", file, file[-32:]):
        with pytest.raises(DataError, match="damaged"):
            container.unpack(file + more)


def test_another_version_is_named(file: bytes) -> None:
    with pytest.raises(DataError, match="version '9'"):
        container.unpack(file.replace(b"text 2", b"text 9", 1))
    with pytest.raises(DataError, match="none of `harness compress`"):
        container.unpack(b"PK\x03\x04 and more")


@pytest.mark.parametrize(
    "changes",
    [
        {"num_tokens": -1},
        {"num_tokens": 41},
        {"num_tokens": 1 << 50, "num_bytes": 1 << 50},
        {"num_bytes": 1 << 31},
        {"streams": 0},
        {"streams": 21},
        {"streams": 1 << 40},
        {"start": -1},
        {"code_bytes": 21},
        {"code_bytes": 24},
        {"code_bytes": 28, "residual_bytes": -4},
        {"residual_bytes": 1 << 62},
        {"num_tokens": 1e300},
        {"num_tokens": "20"},
        {"settings": None},
        {"sha256": 7},
    ],
)
def test_a_header_that_cannot_be_true_is_refused(changes: dict[str, Any], file: bytes) -> None:
    with pytest.raises(DataError, match="damaged"):
        container.unpack(with_header(file, **changes))


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"{}", b"[" * 5000, b"9" * 20000, b'{"a": NaN}', b"\xff"])
def test_a_header_that_is_no_header_is_refused(line: bytes, file: bytes) -> None:
    body = container.MAGIC + line + b"\n" + file.split(b"\n", 2)[2][:-32]
    with pytest.raises(DataError, match="damaged"):
        container.unpack(body + hashlib.sha256(body).digest())
