"""Any bytes as tokens of a vocabulary with a residual, and back.

A vocabulary of bytes or characters has no token for some symbols, one of words none for some words and for blanks. The
residual holds them: as separators between tokens, and as the words of `<unk>`. So the tokens are those of training, and
every file can be written. Bytes that are not UTF-8 are characters of their own (`surrogateescape`).

    >>> code = VocabularyText(["<eos>", "the", "cat"], "word")
    >>> ids, residual = code.read(b"the  cat \\n")
    >>> ids.tolist(), code.write(ids, residual, 10)
    ([1, 2, 0], b'the  cat \\n')
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Protocol

import numpy as np

from harness.core.errors import CheckpointError, DataError
from harness.core.interfaces import LoadedModel
from harness.core.units import BYTE, CHAR, EOS, WORD
from harness.evaluation.coding.residual import NUM_PLACES, Residual
from harness.evaluation.pretrained import PretrainedModel
from harness.evaluation.token_text import TokenText, token_texts
from lm_models.huggingface.tokenizer import Tokenizer

_UNKNOWN = "<unk>"
_CHUNK = 1 << 20  # tokens written at once, so that memory does not grow with the text
_WORDS = re.compile(r"(\s*)(\S+|\Z)")
_LINE_BLANKS = re.compile(r"^ +| +$", re.M)
# Of the residual, for each byte of the text: its separators and words are parts of the text, each with two numbers.
_RESIDUAL_PER_BYTE = 32


class Text(Protocol):
    """Turns bytes into tokens and back."""

    @property
    def start(self) -> int:
        """The token that a model reads before a text."""
        ...

    def read(self, content: bytes) -> tuple[np.ndarray, bytes]:
        """Tokens (N,) and residual. Raises DataError if they cannot say the content."""
        ...

    def write(self, ids: np.ndarray, residual: bytes, num_bytes: int) -> bytes:
        """The content.

        Args:
            ids: tokens (N,).
            residual: of `read`.
            num_bytes: of the content.

        Raises:
            DataError: the residual is damaged.
        """
        ...


def text_of(loaded: LoadedModel) -> Text:
    """How a model reads bytes. Raises CheckpointError if its tokens have no text."""
    if isinstance(loaded.reader, PretrainedModel):
        return TokenizerText(loaded.reader.tokenizer)
    if TokenText.of(loaded.vocabulary, loaded.unit) is None:
        raise CheckpointError(f"{loaded.folder}: its tokens have no text, so that no file can be written in them")
    return VocabularyText(loaded.vocabulary, loaded.unit)


class TokenizerText:
    """A pretrained model's own tokeniser: a `Text`. A token is its bytes, or these without the space before them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @property
    def start(self) -> int:
        """The token of the beginning, or any."""
        begin = self._tokenizer.begin
        return 0 if begin is None else self._tokenizer.vocabulary.index(begin)

    def read(self, content: bytes) -> tuple[np.ndarray, bytes]:
        """As `Text.read`: the content must be UTF-8 that the tokeniser keeps."""
        if not content:
            return np.empty(0, np.int64), b""
        try:
            encoded = self._tokenizer.encode(content)
        except ValueError as error:
            raise DataError(f"the model's tokens cannot say this file: {error}") from None
        first = encoded.begin is not None
        ids, sizes = encoded.ids[first:], encoded.num_bytes[first:]
        shorter = [
            at
            for at, (token, size) in enumerate(zip(ids, sizes, strict=True))
            if size < len(self._tokenizer.bytes_of(token))
        ]
        residual = Residual(("",) * NUM_PLACES, shorter, [""] * len(shorter), []).to_bytes("utf-8") if shorter else b""
        return np.array(ids, np.int64), residual

    def write(self, ids: np.ndarray, residual: bytes, num_bytes: int) -> bytes:
        """As `Text.write`."""
        shorter: set[int] = set()
        if residual:
            shorter.update(Residual.from_bytes(residual, "utf-8", _RESIDUAL_PER_BYTE * (num_bytes + 64)).at)
        pieces = map(self._tokenizer.bytes_of, ids.tolist())
        return b"".join(piece[at in shorter :] for at, piece in enumerate(pieces))


class VocabularyText:
    """A vocabulary of bytes, characters or words: a `Text`.

    Args:
        vocabulary: token i is vocabulary[i].
        unit: byte, char or word.
    """

    def __init__(self, vocabulary: Sequence[str], unit: str) -> None:
        self._is_word = unit == WORD
        self._encoding = "latin-1" if unit == BYTE else "utf-8"
        if unit == BYTE:
            self._texts = ["\n" if token == EOS else chr(int(token)) for token in vocabulary]
        else:
            self._texts = token_texts(vocabulary, unit)
        self._ids = {text: number for number, text in enumerate(self._texts)}
        self._line_end = self._ids.get("\n") if EOS in vocabulary else None
        # The text of such a vocabulary was stripped, line by line.
        self._is_stripped = unit == CHAR and EOS in vocabulary and " " not in vocabulary
        self._unknown = self._ids.get(_UNKNOWN) if self._is_word else None
        # The separator between two words; there is none where a line ends, nor between characters.
        self._usual = (" " if self._is_word else "", "", "", "")

    @property
    def start(self) -> int:
        """The end of a line or, where the vocabulary has none, a space or any token."""
        return next((self._ids[text] for text in ("\n", " ") if text in self._ids), 0)

    def read(self, content: bytes) -> tuple[np.ndarray, bytes]:
        """Tokens (N,) and residual, which is empty if there is nothing to say."""
        text = content.decode(self._encoding, "surrogateescape")
        ids, found, unknown = self._read_words(text) if self._is_word else self._read_symbols(text)
        usual, others = self._cheapest(ids, found)
        if usual == self._usual and not (others or unknown):
            return ids, b""
        return ids, Residual(usual, list(others), list(others.values()), unknown).to_bytes(self._encoding)

    def write(self, ids: np.ndarray, residual: bytes, num_bytes: int) -> bytes:
        """As `Text.write`."""
        rest = Residual(self._usual, [], [], [])
        if residual:
            rest = Residual.from_bytes(residual, self._encoding, _RESIDUAL_PER_BYTE * (num_bytes + 64))
        usual = np.array(rest.usual, object)
        places = self._places(ids)
        # Of objects: numpy's own strings lose NULs at their ends.
        at, others, unknown = np.array(rest.at, np.int64), np.array(rest.others, object), iter(rest.unknown)
        parts: list[str] = []
        size = 0
        for first in range(0, len(ids) + 1, _CHUNK):
            stop = min(first + _CHUNK, len(ids) + 1)
            separators = usual[places[first:stop]]
            begin, end = np.searchsorted(at, [first, stop])
            separators[at[begin:end] - first] = others[begin:end]
            words = self._words(ids[first:stop].tolist(), unknown)
            parts.append("".join(chain.from_iterable(zip(separators, chain(words, [""]), strict=False))))
            size += len(parts[-1])
            if size > num_bytes:
                raise DataError("the file is damaged: its text is longer than its header says")
        try:
            return "".join(parts).encode(self._encoding, "surrogateescape")
        except UnicodeEncodeError:
            raise DataError("the file is damaged: its text has characters that no text has") from None

    def _words(self, ids: Iterable[int], unknown: Iterable[str]) -> Iterable[str]:
        if self._unknown is None:
            return map(self._texts.__getitem__, ids)
        words = iter(unknown)
        return (next(words, "") if number == self._unknown else self._texts[number] for number in ids)

    def _read_symbols(self, text: str) -> tuple[np.ndarray, dict[int, str], list[str]]:
        """Tokens (N,), the separators that are not empty by position, and no unknown words."""
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
        table = np.full(max(map(ord, self._ids), default=0) + 2, -1, np.int64)
        table[[ord(symbol) for symbol in self._ids]] = list(self._ids.values())
        ids = table[np.minimum(points, len(table) - 1)]
        if self._is_stripped:
            for match in _LINE_BLANKS.finditer(text):
                ids[match.start() : match.end()] = -1
        known = np.flatnonzero(ids >= 0)
        begins = np.concatenate([[0], known + 1])
        ends = np.concatenate([known, [len(text)]])
        found = {int(place): text[begins[place] : ends[place]] for place in np.flatnonzero(begins < ends)}
        return ids[known], found, []

    def _read_words(self, text: str) -> tuple[np.ndarray, dict[int, str], list[str]]:
        """Tokens (N,), the separators that are not the usual ones by position, and the words of unknown tokens."""
        ids, found, unknown = array("I"), {}, []
        after_line_end = True

        def add(separator: str, token: int) -> None:
            nonlocal after_line_end
            is_line_end = token == self._line_end
            if separator != self._usual[2 * after_line_end + is_line_end]:
                found[len(ids)] = separator
            ids.append(token)
            after_line_end = is_line_end

        waiting = ""
        for match in _WORDS.finditer(text):
            blanks, word = match.groups()
            if self._line_end is not None and "\n" in blanks:
                *lines, blanks = blanks.split("\n")
                for line in lines:
                    add(waiting + line, self._line_end)
                    waiting = ""
            if not word:
                waiting += blanks
                break
            number = self._ids.get(word, self._unknown)
            if number is None:
                # Without a token for it, the word becomes part of what is between its neighbours.
                waiting += blanks + word
                continue
            add(waiting + blanks, number)
            waiting = ""
            if number == self._unknown:
                unknown.append(word)
        if waiting != self._usual[2 * after_line_end + 1]:
            found[len(ids)] = waiting
        return np.frombuffer(ids, np.uint32).astype(np.int64) if ids else np.empty(0, np.int64), found, unknown

    def _places(self, ids: np.ndarray) -> np.ndarray:
        """Place of each separator (N + 1,). The beginning and the end of a text are like ends of lines."""
        is_end = np.ones(len(ids) + 2, bool)
        is_end[1:-1] = ids == (-1 if self._line_end is None else self._line_end)
        places: np.ndarray = 2 * is_end[:-1] + is_end[1:]
        return places

    def _cheapest(self, ids: np.ndarray, found: dict[int, str]) -> tuple[tuple[str, ...], dict[int, str]]:
        """The most frequent separator of each place, and the others by position."""
        places = self._places(ids)
        usual = list(self._usual)
        counts: list[Counter[str]] = [Counter() for _ in range(NUM_PLACES)]
        for position, separator in found.items():
            counts[places[position]][separator] += 1
        for place, total in enumerate(np.bincount(places, minlength=NUM_PLACES).tolist()):
            [(separator, count)] = counts[place].most_common(1) or [("", 0)]
            if count <= total - counts[place].total():
                continue
            for position in np.flatnonzero(places == place).tolist():
                found.setdefault(position, usual[place])
            usual[place] = separator
        others = {at: separator for at, separator in sorted(found.items()) if separator != usual[places[at]]}
        return tuple(usual), others
