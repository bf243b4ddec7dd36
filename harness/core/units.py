"""What the tokens of a vocabulary are: bytes, characters or words."""

from __future__ import annotations

from collections.abc import Sequence

EOS = "<eos>"
BYTE, CHAR, WORD = UNITS = ("byte", "char", "word")
_BYTES = frozenset(map(str, range(256)))


def unit_of(vocabulary: Sequence[str]) -> str:
    """`byte` where every token is a byte's number, `char` where every one is a single character, else `word`.

    `<eos>` may stand among any of them.
    """
    tokens = [token for token in vocabulary if token != EOS]
    if first_stranger(tokens) is None and len(tokens) > 10:
        return BYTE
    return CHAR if all(len(token) == 1 for token in tokens) else WORD


def first_stranger(vocabulary: Sequence[str]) -> str | None:
    """The first token that is neither a byte's number, written without leading zeros, nor `<eos>`; None of bytes."""
    return next((token for token in vocabulary if token != EOS and token not in _BYTES), None)
