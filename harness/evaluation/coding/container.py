"""The file of a coded text: two lines, the code, the residual and a checksum.

The first line names the format, the second is the header in JSON. The last 32 bytes are the SHA-256 of all before them:
damage is found before anything is decoded.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np

from harness.core.errors import DataError
from harness.core.json_values import FILE_BLOCK, parse_json
from harness.evaluation.coding.settings import Settings
from harness.system import source

MAGIC = b"lm-harness text 2\n"
_FAMILY = MAGIC[: MAGIC.rindex(b" ")]
_WORD = np.dtype("<u4")
_DIGEST_BYTES = hashlib.sha256().digest_size

# A text of a GiB takes hours with the smallest model. It bounds what a header can ask for.
MAX_BYTES = 1 << 30
MAX_FILE_BYTES = 4 * MAX_BYTES
MAX_STREAMS = 1024
_MAX_HEADER_BYTES = 1 << 14


@dataclass(frozen=True, slots=True)
class Header:
    """What decoding needs besides the model.

    Attributes:
        settings: that the probabilities depend on.
        num_tokens: that were coded.
        streams: parts of the text that were coded together, one token of each per forward pass.
        start: token that each stream reads first; it is not coded.
        num_bytes: of the content.
        sha256: of the content.
        code_bytes: of the range coder's words.
        residual_bytes: of what the tokens do not say.
        written_by: version and checksum of the harness.
    """

    __pydantic_config__ = FILE_BLOCK

    settings: Settings
    num_tokens: int
    streams: int
    start: int
    num_bytes: int
    sha256: str
    code_bytes: int
    residual_bytes: int
    written_by: str

    def is_possible(self) -> bool:
        """Whether the numbers can be true, so that memory may be taken for them."""
        # A token has at least one byte of the content, or is the space that a tokeniser sets before a word.
        return (
            0 <= self.num_tokens <= 2 * self.num_bytes <= 2 * MAX_BYTES
            and 1 <= self.streams <= min(MAX_STREAMS, max(1, self.num_tokens))
            and self.start >= 0
            and min(self.code_bytes, self.residual_bytes) >= 0
            and self.code_bytes % _WORD.itemsize == 0
        )


@dataclass(frozen=True, slots=True)
class Coded:
    """A coded text: its header, the words of the range coder (uint32), and the residual."""

    header: Header
    words: np.ndarray
    residual: bytes


def pack(
    settings: Settings, content: bytes, words: np.ndarray, residual: bytes, *, num_tokens: int, streams: int, start: int
) -> bytes:
    """Make the file.

    Args:
        settings: of the model.
        content: that the tokens and the residual are decoded to.
        words: of the range coder.
        residual: what the tokens do not say.
        num_tokens, streams, start: as in `Header`.
    """
    code = words.astype(_WORD).tobytes()
    header = Header(
        settings=settings,
        num_tokens=num_tokens,
        streams=streams,
        start=start,
        num_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        code_bytes=len(code),
        residual_bytes=len(residual),
        written_by=str(source.installed()),
    )
    body = MAGIC + json.dumps(asdict(header)).encode() + b"\n" + code + residual
    return body + hashlib.sha256(body).digest()


def unpack(file: bytes) -> Coded:
    """Read a file.

    Raises:
        DataError: it is none of this format and version, or is damaged, cut or longer than it was written.
    """
    if not file.startswith(MAGIC):
        if file.startswith(_FAMILY):
            version = file[len(_FAMILY) : len(_FAMILY) + 9].partition(b"\n")[0].decode("ascii", "replace").strip()
            raise DataError(f"the file is of version {version!r}, which this harness does not read")
        raise DataError("the file is none of `harness compress`, or its first bytes are damaged")
    body, digest = file[:-_DIGEST_BYTES], file[-_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise DataError("the file is damaged: it is not as it was written, or bytes are missing or added at its end")
    line, _, _ = body[len(MAGIC) : len(MAGIC) + _MAX_HEADER_BYTES].partition(b"\n")
    try:
        header = parse_json(Header, line)
    except ValueError as error:
        raise DataError(f"the file is damaged: its header cannot be read: {error}") from None
    begin = len(MAGIC) + len(line) + 1
    middle, end = begin + header.code_bytes, begin + header.code_bytes + header.residual_bytes
    if not header.is_possible() or end != len(body):
        raise DataError("the file is damaged: the numbers of its header are impossible")
    words = np.frombuffer(body[begin:middle], _WORD).astype(np.uint32)
    return Coded(header, words, body[middle:end])


def check_content(content: bytes, header: Header) -> None:
    """Raise DataError unless the content is that of the header."""
    if len(content) != header.num_bytes or hashlib.sha256(content).hexdigest() != header.sha256:
        raise DataError(
            "the decoded text differs from the encoded one: the model's probabilities have other bits here, or the "
            f"file is damaged; it was written by version {header.written_by}, this is {source.installed()}"
        )
