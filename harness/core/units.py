"""Units of a vocabulary: bytes, characters or words."""

from __future__ import annotations

from collections.abc import Sequence

EOS = "<eos>"
BYTE, CHAR, WORD = UNITS = ("byte", "char", "word")
TOKEN = "token"  # of a pretrained model's own tokeniser
_BYTES = frozenset(map(str, range(256)))


def unit_of(vocabulary: Sequence[str]) -> str:
    """Guess the unit of a vocabulary, ignoring `<eos>`.

    `byte` if every token is the number of a byte, `char` if every token is one character, else `word`.
    """
    tokens = [token for token in vocabulary if token != EOS]
    # Ten digits alone are more likely the alphabet of a text of digits.
    if first_non_byte(tokens) is None and len(tokens) > 10:
        return BYTE
    return CHAR if all(len(token) == 1 for token in tokens) else WORD


def first_non_byte(vocabulary: Sequence[str]) -> str | None:
    """The first token that is neither `<eos>` nor the number of a byte without leading zeros, or None."""
    return next((token for token in vocabulary if token != EOS and token not in _BYTES), None)
