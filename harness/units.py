"""What the tokens of a vocabulary are: bytes, characters or words."""

from __future__ import annotations

from collections.abc import Sequence

EOS = "<eos>"
BYTE, CHAR, WORD = "byte", "char", "word"


def unit_of(vocabulary: Sequence[str]) -> str:
    """`byte` where every token is a byte's number, `char` where every one is a single character, else `word`.

    `<eos>` may stand among any of them.
    """
    tokens = [token for token in vocabulary if token != EOS]
    if all(token.isascii() and token.isdecimal() and int(token) < 256 for token in tokens) and len(tokens) > 10:
        return BYTE
    return CHAR if all(len(token) == 1 for token in tokens) else WORD
