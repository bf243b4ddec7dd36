"""Compress any file with a model: `harness compress` and `harness decompress`."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field

import numpy as np

from harness.core.errors import CheckpointError, DataError
from harness.core.interfaces import LoadedModel
from harness.evaluation.coding import coder, container
from harness.evaluation.coding.settings import settings_of
from harness.evaluation.coding.text import text_of

# A stream begins without context, which costs some 13 bits; a step of many streams takes little longer than one of few.
_TOKENS_PER_STREAM = 4096
_MOST_STREAMS = 256


@dataclass(frozen=True, slots=True)
class Compressed:
    """A file that was compressed.

    Attributes:
        file: the compressed one.
        num_bytes: of the content.
        num_chars: of the content; None if it is not UTF-8.
        num_tokens: that were coded.
        streams: parts of the text that were coded together.
        code_bytes: of the coded tokens.
        residual_bytes: of what the tokens do not say.
        seconds: that coding took.
        check_seconds: that decoding it again took.
    """

    file: bytes = field(repr=False)
    num_bytes: int
    num_chars: int | None
    num_tokens: int
    streams: int
    code_bytes: int
    residual_bytes: int
    seconds: float
    check_seconds: float

    def to_json(self) -> dict[str, object]:
        """As `harness compress --json` prints it."""
        fields = {name: value for name, value in asdict(self).items() if name != "file"}
        size = len(self.file)
        return {
            **fields,
            "compressed_bytes": size,
            "header_bytes": size - self.code_bytes - self.residual_bytes,
            "bits_per_byte": 8 * size / self.num_bytes if self.num_bytes else None,
            "bits_per_char": 8 * size / self.num_chars if self.num_chars else None,
        }


@dataclass(frozen=True, slots=True)
class Decompressed:
    """A file that was decompressed: its content, the size of the compressed one, and the seconds that it took."""

    content: bytes = field(repr=False)
    compressed_bytes: int
    seconds: float

    def to_json(self) -> dict[str, object]:
        """As `harness decompress --json` prints it."""
        return {
            "compressed_bytes": self.compressed_bytes, "num_bytes": len(self.content), "seconds": self.seconds
        }  # fmt: skip


def default_streams(num_tokens: int) -> int:
    """Streams for a text: as many as cost little of its length."""
    return max(1, min(_MOST_STREAMS, num_tokens // _TOKENS_PER_STREAM))


def compress(
    loaded: LoadedModel,
    content: bytes,
    *,
    streams: int | None = None,
    on_start: coder.OnStart = coder.ignore_start,
) -> Compressed:
    """Compress bytes, and decode them again.

    Args:
        loaded: the model.
        content: the bytes.
        streams: parts to code together; None for a number that fits the length.
        on_start: receives each part of the work and its number of tokens; returns its tick.

    Raises:
        DataError: the model's tokens cannot say the content.
        CheckpointError: the model gives no probabilities, or others in a second pass; or constriction is missing.
    """
    settings, text = settings_of(loaded), text_of(loaded)
    started = time.perf_counter()
    ids, residual = text.read(content)
    streams = default_streams(len(ids)) if streams is None else max(1, min(streams, len(ids)))
    tick = on_start("compressing", len(ids))
    words = coder.encode_streams(loaded.model, ids, start=text.start, streams=streams, tick=tick)
    file = container.pack(settings, content, words, residual, num_tokens=len(ids), streams=streams, start=text.start)
    encoded = time.perf_counter()
    # Kernels that sum in another order each time would make a file that nobody can read.
    if not _comes_back(loaded, file, ids, on_start("checking", len(ids))):
        raise CheckpointError(
            f"{loaded.folder}: its probabilities differ from one pass to the next on {loaded.device}, so that a file "
            "could not be decompressed; try --device cpu"
        )
    return Compressed(
        file=file,
        num_bytes=len(content),
        num_chars=_num_chars(content),
        num_tokens=len(ids),
        streams=streams,
        code_bytes=words.nbytes,
        residual_bytes=len(residual),
        seconds=encoded - started,
        check_seconds=time.perf_counter() - encoded,
    )


def decompress(loaded: LoadedModel, file: bytes, *, on_start: coder.OnStart = coder.ignore_start) -> Decompressed:
    """Decompress a file.

    Args:
        loaded: the model that it was compressed with.
        file: its bytes.
        on_start: as of `compress`.

    Raises:
        DataError: the file is damaged, or was written by another model, machine or software; the message says which.
        CheckpointError: the model gives no probabilities, or constriction is missing.
    """
    started = time.perf_counter()
    coded = container.unpack(file)
    text = text_of(loaded)
    ids = coder.decode_streams(loaded, coded, tick=on_start("decompressing", coded.header.num_tokens))
    content = text.write(ids, coded.residual, coded.header.num_bytes)
    container.check_content(content, coded.header)
    return Decompressed(content, len(file), time.perf_counter() - started)


def _comes_back(loaded: LoadedModel, file: bytes, ids: np.ndarray, tick: coder.Tick | None) -> bool:
    try:
        return np.array_equal(coder.decode_streams(loaded, container.unpack(file), tick=tick), ids)
    except DataError:
        return False


def _num_chars(content: bytes) -> int | None:
    try:
        return len(content.decode())
    except UnicodeDecodeError:
        return None
