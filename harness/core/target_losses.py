"""The loss and the bytes of each target of a text, so that models of different tokens can be compared per byte."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.core.units import EOS, WORD, token_bytes

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class TargetLosses:
    """Losses of the consecutive targets of a text.

    Attributes:
        nll: of each target, in nats, float32 or float64, (n,).
        sizes: bytes of each target, unsigned, (n,).
        first_byte: where in the text the first target begins.
        text_sha256: of all bytes of the text, tokens without a loss included.
    """

    nll: np.ndarray
    sizes: np.ndarray
    first_byte: int
    text_sha256: str

    @property
    def edges(self) -> np.ndarray:
        """Byte offsets between the targets, (n + 1,)."""
        return self.first_byte + np.concatenate([[0], np.cumsum(self.sizes, dtype=np.int64)])


def of_text(nll: np.ndarray, ids: np.ndarray, vocabulary: Sequence[str], unit: str) -> TargetLosses:
    """Find the bytes of each target; see `measure_text`.

    Args:
        nll: of every token but the first, (N - 1,).
        ids, vocabulary, unit: the text.

    Returns:
        The losses, in float32 if that loses nothing.
    """
    sizes, text_sha256 = measure_text(ids, vocabulary, unit)
    single = nll.astype(np.float32)
    return TargetLosses(
        nll=single if np.array_equal(single, nll, equal_nan=True) else nll.astype(np.float64),
        sizes=sizes[1:].astype(np.min_scalar_type(int(sizes.max()))),
        first_byte=int(sizes[0]),
        text_sha256=text_sha256,
    )


def measure_text(ids: np.ndarray, vocabulary: Sequence[str], unit: str) -> tuple[np.ndarray, str]:
    """Count the bytes of each token of a text, and take the sha256 of all.

    The text is written with one space between the words of a line, a newline for `<eos>`, and a space for `_` where
    characters are separated by spaces.

    Args:
        ids: the text, (N,).
        vocabulary: text of each token.
        unit: of the tokens.

    Returns:
        Bytes by token (N,), and the checksum.
    """
    plain = token_bytes(vocabulary, unit)
    pieces = [*plain, *(b" " + token for token in plain)] if unit == WORD else plain
    lengths = np.array([len(piece) for piece in pieces], np.int64)
    end = list(vocabulary).index(EOS) if EOS in vocabulary else -1
    digest, parts, before = hashlib.sha256(), [], end
    for start in range(0, len(ids), _CHUNK):
        chunk = np.asarray(ids[start : start + _CHUNK], np.int64)
        if unit == WORD:
            # A space before each word that does not begin a line.
            follows = (chunk != end) & (np.concatenate([[before], chunk[:-1]]) != end)
            follows[0] &= start > 0
            before, chunk = int(chunk[-1]), chunk + len(plain) * follows
        digest.update(b"".join(map(pieces.__getitem__, chunk.tolist())))
        parts.append(lengths[chunk])
    return np.concatenate(parts), digest.hexdigest()
