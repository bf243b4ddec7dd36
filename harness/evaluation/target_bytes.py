"""The losses of the targets of a text with the bytes of each target. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from harness.core.interfaces import ReadText
from harness.core.target_losses import TargetLosses
from harness.evaluation.token_text import TokenText, token_texts

_CHUNK = 1 << 20  # tokens written at once


def with_bytes(nll: np.ndarray, ids: np.ndarray, vocabulary: Sequence[str], unit: str) -> TargetLosses | None:
    """Find the bytes of each target in the normalised text of `TokenText`.

    Args:
        nll: of every token but the first, (N - 1,).
        ids: the text, (N,).
        vocabulary: text of each token.
        unit: of the tokens.

    Returns:
        The losses, in float32 if that loses nothing; None if the tokens have no text.
    """
    tokens = TokenText.of(vocabulary, unit)
    if tokens is None:
        return None
    return _losses(nll, tokens.bytes_of(ids), text_sha256(ids, vocabulary, unit))


def with_own_bytes(nll: np.ndarray, read: ReadText) -> TargetLosses:
    """The same for the tokens of a model's own tokeniser.

    Args:
        nll: of every token but the first, (N - 1,).
        read: the text.
    """
    return _losses(nll, np.diff(read.ends, prepend=0), hashlib.sha256(read.text).hexdigest())


def _losses(nll: np.ndarray, sizes_N: np.ndarray, sha256: str) -> TargetLosses:
    single = nll.astype(np.float32)
    return TargetLosses(
        nll=single if np.array_equal(single, nll, equal_nan=True) else nll.astype(np.float64),
        sizes=sizes_N[1:].astype(np.min_scalar_type(int(sizes_N.max()))),
        first_byte=int(sizes_N[0]),
        text_sha256=sha256,
    )


def text_sha256(ids: np.ndarray, vocabulary: Sequence[str], unit: str) -> str:
    """sha256 of the normalised text of `TokenText`; of the tokens end to end if they have no text."""
    digest = hashlib.sha256()
    for chunk in _chunks(ids, vocabulary, unit):
        digest.update(chunk)
    return digest.hexdigest()


def text_of(ids: np.ndarray, vocabulary: Sequence[str], unit: str) -> bytes:
    """The normalised text of `TokenText`; the tokens end to end if they have no text."""
    return b"".join(_chunks(ids, vocabulary, unit))


def _chunks(ids: np.ndarray, vocabulary: Sequence[str], unit: str) -> Iterator[bytes]:
    tokens = TokenText.of(vocabulary, unit)
    if tokens is not None and tokens.values_V is not None:
        for start in range(0, len(ids), _CHUNK):
            yield tokens.values_V[ids[start : start + _CHUNK]].tobytes()
        return
    plain = [text.encode("utf-8", "surrogatepass") for text in token_texts(vocabulary, unit)]
    pieces = [*plain, *(b" " + text for text in plain)]
    for start in range(0, len(ids), _CHUNK):
        stop = min(start + _CHUNK, len(ids))
        chunk = np.asarray(ids[start:stop], np.int64)
        if tokens is not None:
            # A token has one byte more than its text where a space precedes it.
            chunk = chunk + len(plain) * (tokens.bytes_of(ids, start, stop) - tokens.bytes_V[chunk])
        yield b"".join(map(pieces.__getitem__, chunk.tolist()))
