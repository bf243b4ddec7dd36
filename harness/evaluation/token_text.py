"""The text that the tokens of a vocabulary stand for: bytes, characters and words of every token.

The text of a split is normalised as its tokens are: words are joined by one space, `<eos>` is a newline, `_` is a space
where `<eos>` ends the lines of a vocabulary of characters, and `<unk>` counts as written. A word begins with the space
before it, except at the beginning of a line. Shape letters: N tokens of a split, V vocabulary.

    >>> text = TokenText.of(["the", "cat", "<eos>"], "word")
    >>> text.size(np.array([0, 1, 2, 0]), 1)  # " cat\\nthe" without the first "the"
    TextSize(num_bytes=8, num_chars=8, num_words=2)
"""

from __future__ import annotations

import codecs
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.core.scores import TextSize
from harness.core.units import BYTE, CHAR, EOS, WORD

# Written for a space in data of characters separated by spaces (Penn Treebank).
SPACE = "_"

_CHUNK = 1 << 20  # tokens counted at once, so that memory does not grow with the split
_MOST_CONTINUED = 3  # bytes of a UTF-8 character after its first
_IS_SPACE = np.array([chr(code).isspace() for code in range(0x3002)])  # U+3000 is the last white space


def token_texts(vocabulary: Sequence[str], unit: str) -> list[str]:
    """Text of every token of characters or words (V,), without the space before a word."""
    spaced = unit == CHAR and EOS in vocabulary and " " not in vocabulary
    shown = {EOS: "\n", SPACE: " "} if spaced else {EOS: "\n"}
    return [shown.get(token, token) for token in vocabulary]


@dataclass(frozen=True, slots=True)
class TokenText:
    """Sizes of a vocabulary's tokens.

    Attributes:
        unit: `byte`, `char` or `word`.
        bytes_V: UTF-8 bytes of each token, without the space before a word.
        chars_V: code points of the same; unused for bytes.
        breaks_V: whether a token separates words: white space, or a line's end.
        values_V: the byte of each token, for a vocabulary of bytes.
    """

    unit: str
    bytes_V: np.ndarray
    chars_V: np.ndarray
    breaks_V: np.ndarray
    values_V: np.ndarray | None = None

    @property
    def num_added(self) -> int:
        """Every token of a split is of its text."""
        return 0

    @classmethod
    def of(cls, vocabulary: Sequence[str], unit: str) -> TokenText | None:
        """Measure a vocabulary: token i is vocabulary[i]. None if its tokens stand for no text.

        Symbols of a synthetic source that are numbers are no characters.
        """
        if unit == BYTE:
            values = [10 if token == EOS else int(token) for token in vocabulary]
            ones = np.ones(len(values), np.int64)
            return cls(unit, ones, ones, np.zeros(len(values), bool), np.array(values, np.uint8))
        texts = token_texts(vocabulary, unit)
        if unit == CHAR and any(len(text) != 1 for text in texts):
            return None
        return cls(
            unit,
            # surrogatepass: a vocabulary of an imported checkpoint may hold lone surrogates.
            np.array([len(text.encode("utf-8", "surrogatepass")) for text in texts], np.int64),
            np.array([len(text) for text in texts], np.int64),
            np.array([text.isspace() for text in texts], bool),
        )

    def bytes_of(self, ids: np.ndarray, first: int = 0, stop: int | None = None) -> np.ndarray:
        """Bytes of each of the tokens [first, stop) of a split, with the space before a word.

        Their running sum from token 0 is the end of each token in the normalised text.

        Args:
            ids: of the complete split (N,): a word's space depends on the token before it.
            first: first token to measure.
            stop: one past the last; None for the end of the split.

        Returns:
            int64 (stop - first,).
        """
        stop = len(ids) if stop is None else stop
        return self._with_spaces(self.bytes_V, ids, first, stop)

    def size(self, ids: np.ndarray, first: int = 0, stop: int | None = None) -> TextSize:
        """Size of the text of the tokens [first, stop) of a split; arguments as for `bytes_of`."""
        stop = len(ids) if stop is None else stop
        total = TextSize(0, 0, 0)
        for start in range(first, stop, _CHUNK):
            total += self._size(ids, start, min(start + _CHUNK, stop))
        return total

    def _size(self, ids: np.ndarray, first: int, stop: int) -> TextSize:
        if self.values_V is not None:
            return _size_of_bytes(ids, self.values_V, first, stop)
        num_bytes = int(self.bytes_of(ids, first, stop).sum())
        num_chars = int(self._with_spaces(self.chars_V, ids, first, stop).sum())
        begins = ~self.breaks_V[ids[first:stop]]
        if self.unit == CHAR:
            begins &= self._follows_break(ids, first, stop)
        return TextSize(num_bytes, num_chars, int(begins.sum()))

    def _with_spaces(self, sizes_V: np.ndarray, ids: np.ndarray, first: int, stop: int) -> np.ndarray:
        sizes: np.ndarray = sizes_V[ids[first:stop]]
        if self.unit == WORD:
            sizes = sizes + ~(self.breaks_V[ids[first:stop]] | self._follows_break(ids, first, stop))
        return sizes

    def _follows_break(self, ids: np.ndarray, first: int, stop: int) -> np.ndarray:
        """Whether each token [first, stop) follows white space or begins the split."""
        if first > 0:
            before: np.ndarray = self.breaks_V[ids[first - 1 : stop - 1]]
            return before
        return np.concatenate([[True], self.breaks_V[ids[: stop - 1]]])


def _size_of_bytes(ids: np.ndarray, values_V: np.ndarray, first: int, stop: int) -> TextSize:
    """Size of the bytes [first, stop), which may begin and end inside characters."""
    # From the beginning of the character before `first` to the end of the last one that begins before `stop`.
    start = max(0, first - 1 - _MOST_CONTINUED)
    values = values_V[ids[start : min(len(ids), stop + _MOST_CONTINUED)]]
    is_first = (values & 0xC0) != 0x80
    begin, end = max(0, first - 1 - start), stop - start
    while begin > 0 and not is_first[begin]:
        begin -= 1
    # A split that begins inside a character: the one before it has the rest.
    while start == 0 and begin < min(_MOST_CONTINUED, end) and not is_first[begin]:
        begin += 1
    while end < len(values) and not is_first[end]:
        end += 1
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(values[begin:end].tobytes())
    except UnicodeDecodeError:
        return TextSize(stop - first, None, None)
    # Only a split's end can be inside a character: it counts there.
    text += "\ufffd" * bool(decoder.getstate()[0])
    points = np.frombuffer(text.encode("utf-32-le" if sys.byteorder == "little" else "utf-32-be"), np.uint32)
    spaces = _IS_SPACE[np.minimum(points, len(_IS_SPACE) - 1)]
    before = np.concatenate([[start + begin == 0], spaces[:-1]])
    # The character before `first` was decoded to see whether it is a space.
    skip = int(start + begin < first)
    begins = ~spaces[skip:] & before[skip:]
    return TextSize(stop - first, len(points) - skip, int(begins.sum()))
