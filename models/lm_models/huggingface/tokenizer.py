"""Text to a pretrained model's tokens and back to bytes: every byte of the text belongs to one token."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "\u2581"  # SentencePiece writes it for a space
_AROUND = 20  # characters of the text to show before and after a wrong place


@dataclass(frozen=True, slots=True)
class Encoding:
    """A text as tokens.

    Attributes:
        ids: the token of the beginning first, if there is one.
        num_bytes: bytes of the text that belong to each of `ids`; none to the beginning.
        begin: text of that token; None if the first token of the text conditions the others and is not predicted.
    """

    ids: list[int]
    num_bytes: list[int]
    begin: str | None


class Tokenizer:
    """A tokeniser of the `tokenizers` library.

    Args:
        backend: a `tokenizers.Tokenizer`.
        begin: text of the token that precedes every text; None for none.
    """

    def __init__(self, backend: Any, begin: str | None) -> None:
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self.begin = begin
        settings = json.loads(backend.to_str())
        self._decoders = set(_types(settings["decoder"]))
        self._has_byte_tokens = bool((settings["model"] or {}).get("byte_fallback"))
        # An added token is found in the text as it is, or in the text after the normaliser.
        self._added = {each["id"]: bool(each["normalized"]) for each in settings["added_tokens"]}
        self._bytes: dict[int, bytes] = {}

    @cached_property
    def vocabulary(self) -> list[str]:
        """Text of every token as the tokeniser writes it, by id; unused ids are empty."""
        ids: Mapping[str, int] = self._backend.get_vocab(with_added_tokens=True)
        words = [""] * (max(ids.values()) + 1)
        for word, number in ids.items():
            words[number] = word
        return words

    def encode(self, text: bytes) -> Encoding:
        """Tokenise a text.

        Args:
            text: UTF-8.

        Returns:
            Its tokens, whose own bytes are those of the text.

        Raises:
            ValueError: the text is empty or not UTF-8, or the tokens are not those of the text; it names the place.
        """
        try:
            ids: list[int] = self._backend.encode(text.decode(), add_special_tokens=False).ids
        except UnicodeDecodeError as error:
            raise ValueError(f"byte {error.start:,} is not UTF-8 ({error.reason})") from None
        if not ids:
            raise ValueError("the text is empty")
        sizes = [len(piece) for piece in self.pieces(text, ids)]
        if self.begin is None:
            return Encoding(ids, sizes, None)
        return Encoding([self._backend.token_to_id(self.begin), *ids], [0, *sizes], self.begin)

    def pieces(self, text: bytes, ids: Sequence[int]) -> Iterator[bytes]:
        """The bytes of each token, which together are the text; ValueError at the first that does not fit."""
        place = 0
        for is_added, group in groupby(ids, self._added.__contains__):
            tokens = list(group)
            pieces = [self.bytes_of(token) for token in tokens]
            joined = b"".join(pieces)
            # SentencePiece sets a space before the text, and again after an added token.
            has_space = text.startswith(b" ", place) and not text.startswith(joined[1:], place)
            if not (is_added or has_space or text.startswith(joined, place)) and joined.startswith(b" "):
                first = next(index for index, piece in enumerate(pieces) if piece)
                pieces[first] = pieces[first][1:]
            for token, piece in zip(tokens, pieces, strict=True):
                if not text.startswith(piece, place):
                    raise ValueError(self._misfit(text, place, token, piece))
                yield piece
                place += len(piece)
        if place != len(text):
            raise ValueError(f"byte {place:,}: the tokens end before the text, at {_excerpt(text, place)}")

    def bytes_of(self, token: int) -> bytes:
        """A token's own bytes, which need not be whole characters."""
        if token not in self._bytes:
            self._bytes[token] = self._own_bytes(token)
        return self._bytes[token]

    def _own_bytes(self, token: int) -> bytes:
        word: str = self._backend.id_to_token(token)
        if self._added.get(token) is False:
            return word.encode()
        if "ByteLevel" in self._decoders:
            if token in self._added:
                return word.encode()
            return bytes(_BYTE_OF_CHAR.get(char, ord("?")) for char in word)
        if self._has_byte_tokens and (match := _BYTE.fullmatch(word)):
            return bytes([int(match[1], 16)])
        if self._decoders & {"Metaspace", "Replace"}:
            word = word.replace(_SPACE, " ")
        return word.encode()

    def _misfit(self, text: bytes, place: int, token: int, piece: bytes) -> str:
        found = text[place : place + max(1, len(piece))].decode(errors="replace")
        return (
            f"byte {place:,}: token {token} is {piece.decode(errors='replace')!r} and the text has {found!r} there, in "
            f"{_excerpt(text, place)}; this tokeniser does not keep the text, so its bits per byte would be of another"
        )


def _excerpt(text: bytes, place: int) -> str:
    return repr(text[max(0, place - _AROUND) : place + _AROUND].decode(errors="replace"))


def _types(decoder: Mapping[str, Any] | None) -> Iterator[str]:
    """Types of a decoder and, for a sequence, of its parts."""
    if decoder is not None:
        yield decoder["type"]
        for part in decoder.get("decoders", ()):
            yield from _types(part)


def _byte_of_char() -> dict[str, int]:
    """The character that byte-level BPE writes for each byte: itself if it is printable, else one from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(256) if value not in printable]
    return {chr(value): value for value in printable} | {chr(256 + i): value for i, value in enumerate(others)}


_BYTE_OF_CHAR = _byte_of_char()
