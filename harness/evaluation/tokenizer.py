"""Convert text into a checkpoint's tokens, and back.

The vocabulary decides how a text is read. With `<eos>`, lines are tokens separated by spaces, as in the official code's
data. Without, the text is one token per byte or per character.

    >>> Tokens.of(["the", "cat", "<eos>"], "word").encode_prompt("the cat\\nthe")
    [0, 1, 2, 0]
"""

from __future__ import annotations

import codecs
import errno
import hashlib
import io
import os
import stat
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.errors import DataError
from harness.core.units import BYTE, CHAR, EOS
from harness.evaluation.token_text import SPACE, token_texts

CHUNK_BYTES = 1 << 20
MAX_NAMED = 5  # unknown tokens named in a message


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids (N,) of a file, how it was read, the sha256 of its bytes, and how many tokens were unknown."""

    ids: np.ndarray
    reading: str
    sha256: str
    num_unknown: int = 0


def _open(path: Path) -> io.FileIO:
    """A file, pipe or terminal. Raises OSError for a device such as /dev/zero, which has no end."""
    file = path.open("rb", buffering=0)
    if stat.S_ISCHR(os.fstat(file.fileno()).st_mode) and not file.isatty():
        file.close()
        raise OSError(errno.EINVAL, "is a device, not a file", str(path))
    return file


class _Hashed(io.RawIOBase):
    """A file read once, hashed on the way: a pipe cannot be read a second time for its sha256."""

    def __init__(self, file: io.FileIO) -> None:
        super().__init__()
        self.file = file
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        """Always; asked by BufferedReader."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer and hash what was read. Returns the number of bytes."""
        count = self.file.readinto(buffer) or 0
        self.sha256.update(memoryview(buffer)[:count])
        return count

    def close(self) -> None:
        """Close the file as well."""
        self.file.close()
        super().close()


@dataclass(slots=True)
class _Unknown:
    """Tokens outside the vocabulary: the first few with their line, and their number."""

    first: dict[str, int] = field(default_factory=dict)
    count: int = 0

    def add(self, token: str, line: int) -> None:
        """Count one."""
        self.count += 1
        if len(self.first) < MAX_NAMED:
            self.first.setdefault(token, line)


@dataclass(frozen=True, slots=True)
class Tokens:
    """A vocabulary that reads and writes text; `unit` is byte, char or word."""

    vocabulary: Sequence[str]
    unit: str
    ids: dict[str, int]

    @classmethod
    def of(cls, vocabulary: Sequence[str], unit: str) -> Tokens:
        """Index a vocabulary: token i is vocabulary[i]."""
        return cls(vocabulary, unit, {token: number for number, token in enumerate(vocabulary)})

    @property
    def reading(self) -> str:
        """How `encode_file` reads, in words."""
        if EOS in self.ids:
            return f"tokens separated by spaces, {EOS} at the end of each line"
        return "one token per byte" if self.unit == BYTE else "one token per character"

    def encode_file(self, path: Path, *, unknown: str | None = None, hint: str = "") -> Encoded:
        """Read a file or a pipe, once.

        Args:
            path: UTF-8 text, or any bytes for a vocabulary of bytes.
            unknown: token that replaces those outside the vocabulary; None to refuse them.
            hint: appended to the message about unknown tokens.

        Returns:
            ids as uint32, with the sha256 of the bytes read.

        Raises:
            DataError: the file cannot be read or is not UTF-8, or holds unknown tokens; the first ones are named.
        """
        if unknown is not None and unknown not in self.ids:
            raise DataError(f"--unknown {unknown!r} is not in the checkpoint's vocabulary of {len(self.ids):,} tokens")
        substitute = None if unknown is None else self.ids[unknown]
        others = _Unknown()
        ids = array("I")
        try:
            with _Hashed(_open(path)) as raw:
                for number, tokens in self._lines(io.BufferedReader(raw, CHUNK_BYTES)):
                    try:
                        ids.extend([self.ids[token] for token in tokens])
                    except KeyError:
                        ids.extend(self._replace_unknown(tokens, number, substitute, others))
                sha256 = raw.sha256.hexdigest()
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: byte {error.start:,} or later is not UTF-8 ({error.reason})") from None
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
        if others.count and substitute is None:
            raise DataError(self._message(path, others) + hint)
        numbers = np.frombuffer(ids, np.uint32) if ids else np.empty(0, np.uint32)
        return Encoded(numbers, self.reading, sha256, others.count)

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a prompt as a person writes it, with plain spaces and newlines.

        An empty prompt becomes the end of a line or, where the vocabulary has none, a space.

        Raises:
            DataError: a token is unknown, or the prompt is empty and the vocabulary has neither.
        """
        tokens = self._prompt_tokens(text)
        for token in tokens:
            if token not in self.ids:
                raise DataError(f"the prompt's {token[:40]!r} is not among the checkpoint's {len(self.ids):,} tokens")
        if tokens:
            return [self.ids[token] for token in tokens]
        before = (EOS, "10", "32") if self.unit == BYTE else (EOS, "\n", " ")
        start = next((self.ids[token] for token in before if token in self.ids), None)
        if start is None:
            some = ", ".join(repr(token[:40]) for token in islice(self.ids, 3))
            raise DataError(
                "give a --prompt of at least one token: this vocabulary has no line breaks and no spaces; "
                f"it begins with {some}"
            )
        return [start]

    def decoder(self) -> Callable[[int], str]:
        """A function from the next id to the text it adds; incomplete UTF-8 gives nothing until it is complete."""
        if self.unit == BYTE:
            decode = codecs.getincrementaldecoder("utf-8")("replace").decode
            return lambda token: "\n" if self.vocabulary[token] == EOS else decode(bytes([int(self.vocabulary[token])]))
        if self.unit == CHAR:
            return token_texts(self.vocabulary, self.unit).__getitem__
        at_line_start = True

        def word(token: int) -> str:
            nonlocal at_line_start
            space = "" if at_line_start else " "
            at_line_start = self.vocabulary[token] == EOS
            return "\n" if at_line_start else space + self.vocabulary[token]

        return word

    def _lines(self, file: io.BufferedReader) -> Iterator[tuple[int, Iterable[str]]]:
        """Line number from 1, and tokens."""
        if EOS in self.ids:
            for number, line in enumerate(io.TextIOWrapper(file, "utf-8"), 1):
                yield number, [*line.split(), EOS]
        elif self.unit == BYTE:
            names = [str(value) for value in range(256)]
            for number, raw in enumerate(file, 1):
                yield number, [names[value] for value in raw]
        else:
            yield from enumerate(io.TextIOWrapper(file, "utf-8", newline=""), 1)

    def _prompt_tokens(self, text: str) -> list[str]:
        end = EOS if EOS in self.ids else "\n"
        if self.unit == BYTE:
            ends_lines = EOS in self.ids and "10" not in self.ids
            return [EOS if value == 10 and ends_lines else str(value) for value in text.encode("utf-8", "replace")]
        if self.unit == CHAR:
            swapped = {"\n": end} if " " in self.ids else {"\n": end, " ": SPACE}
            return [swapped.get(char, char) for char in text]
        lines = [line.split() for line in text.split("\n")]
        return [token for number, line in enumerate(lines) for token in ([end, *line] if number else line)]

    def _replace_unknown(
        self, tokens: Iterable[str], line: int, substitute: int | None, unknown: _Unknown
    ) -> Iterator[int]:
        for token in tokens:
            if token not in self.ids:
                unknown.add(token, line)
                # Without a substitute any id will do: the file is refused at the end.
                yield 0 if substitute is None else substitute
            else:
                yield self.ids[token]

    def _message(self, path: Path, unknown: _Unknown) -> str:
        named = ", ".join(f"{token[:40]!r} (line {line:,})" for token, line in unknown.first.items())
        more = ", ..." if unknown.count > len(unknown.first) else ""
        return (
            f"{path}: {unknown.count:,} tokens are not in the checkpoint's vocabulary of {len(self.ids):,}: "
            f"{named}{more}; the file is read as {self.reading}"
        )
