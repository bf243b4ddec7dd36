"""Text into a checkpoint's own tokens, and back.

What a text file is depends on the vocabulary alone. One with `<eos>` stands for lines of tokens set apart by spaces, as
the official code's data; one without stands for the text itself, byte by byte or character by character.
"""

from __future__ import annotations

import codecs
import hashlib
import io
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.errors import DataError
from harness.core.units import BYTE, CHAR, EOS

SPACE = "_"
"""What stands for a space where characters are set apart by spaces."""

CHUNK_BYTES = 1 << 20
MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class Encoded:
    """ids (N,), what the file was read as, the sha256 of the bytes read, and how many tokens became `unknown`."""

    ids: np.ndarray
    reading: str
    sha256: str
    num_unknown: int = 0


class _Hashed(io.RawIOBase):
    """A file read from one end to the other, and the sha256 of what was read: a pipe gives its bytes only once."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.file = path.open("rb", buffering=0)
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self.file.readinto(buffer) or 0
        self.sha256.update(memoryview(buffer)[:count])
        return count

    def close(self) -> None:
        self.file.close()
        super().close()


@dataclass(slots=True)
class _Strangers:
    """Tokens outside the vocabulary: the first few with their line, and how many there were."""

    first: dict[str, int] = field(default_factory=dict)
    count: int = 0

    def add(self, token: str, line: int) -> None:
        self.count += 1
        if len(self.first) < MAX_NAMED:
            self.first.setdefault(token, line)


@dataclass(frozen=True, slots=True)
class Tokens:
    """A vocabulary that reads and writes text. unit: byte, char or word."""

    vocabulary: Sequence[str]
    unit: str
    ids: dict[str, int]

    @classmethod
    def of(cls, vocabulary: Sequence[str], unit: str) -> Tokens:
        return cls(vocabulary, unit, {token: number for number, token in enumerate(vocabulary)})

    @property
    def reading(self) -> str:
        """How `encode_file` reads, in words."""
        if EOS in self.ids:
            return f"tokens set apart by spaces, {EOS} at each line's end"
        return "one token per byte" if self.unit == BYTE else "one token per character"

    def encode_file(self, path: Path, *, unknown: str | None = None, hint: str = "") -> Encoded:
        """Read a file, or what comes out of a pipe, once from beginning to end.

        Raises DataError naming the first unknown tokens, unless `unknown` stands for them; hint: what else to do.
        """
        if unknown is not None and unknown not in self.ids:
            raise DataError(f"--unknown {unknown!r} is not in the checkpoint's vocabulary of {len(self.ids):,} tokens")
        substitute = None if unknown is None else self.ids[unknown]
        strangers = _Strangers()
        ids = array("I")
        try:
            with _Hashed(path) as raw:
                for number, tokens in self._lines(io.BufferedReader(raw, CHUNK_BYTES)):
                    try:
                        ids.extend([self.ids[token] for token in tokens])
                    except KeyError:
                        ids.extend(self._with_strangers(tokens, number, substitute, strangers))
                sha256 = raw.sha256.hexdigest()
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: byte {error.start:,} or later is not UTF-8 ({error.reason})") from None
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
        if strangers.count and substitute is None:
            raise DataError(self._complaint(path, strangers) + hint)
        numbers = np.frombuffer(ids, np.uint32) if ids else np.empty(0, np.uint32)
        return Encoded(numbers, self.reading, sha256, strangers.count)

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a prompt as one would write it: spaces, and newlines where the vocabulary has a token for them.

        Raises DataError naming the first token that is not known, or an empty prompt without `<eos>` to begin from.
        """
        tokens = self._prompt_tokens(text)
        for token in tokens:
            if token not in self.ids:
                raise DataError(f"the prompt's {token[:40]!r} is not among the checkpoint's {len(self.ids):,} tokens")
        if tokens:
            return [self.ids[token] for token in tokens]
        if EOS in self.ids:
            return [self.ids[EOS]]
        raise DataError(f"give a prompt of at least one token: the vocabulary has no {EOS} to begin from")

    def decoder(self) -> Callable[[int], str]:
        """A function from the next id to the text it adds; bytes wait until they make a character."""
        if self.unit == BYTE:
            decode = codecs.getincrementaldecoder("utf-8")("replace").decode
            return lambda token: "\n" if self.vocabulary[token] == EOS else decode(bytes([int(self.vocabulary[token])]))
        if self.unit == CHAR:
            shown = {EOS: "\n"} if " " in self.ids else {EOS: "\n", SPACE: " "}
            return lambda token: shown.get(self.vocabulary[token], self.vocabulary[token])
        at_line_start = True

        def word(token: int) -> str:
            nonlocal at_line_start
            space = "" if at_line_start else " "
            at_line_start = self.vocabulary[token] == EOS
            return "\n" if at_line_start else space + self.vocabulary[token]

        return word

    def _lines(self, file: io.BufferedReader) -> Iterator[tuple[int, Iterable[str]]]:
        """(line number, tokens) of a file."""
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

    def _with_strangers(
        self, tokens: Iterable[str], number: int, substitute: int | None, strangers: _Strangers
    ) -> Iterator[int]:
        for token in tokens:
            found = self.ids.get(token)
            if found is None:
                strangers.add(token, number)
                found = 0 if substitute is None else substitute
            yield found

    def _complaint(self, path: Path, strangers: _Strangers) -> str:
        named = ", ".join(f"{token[:40]!r} (line {line:,})" for token, line in strangers.first.items())
        more = ", ..." if strangers.count > len(strangers.first) else ""
        return (
            f"{path}: {strangers.count:,} tokens are not in the checkpoint's vocabulary of {len(self.ids):,}: "
            f"{named}{more}; the file is read as {self.reading}"
        )
