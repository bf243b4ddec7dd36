"""Recognise a copy of a text: in files, in the source of a model, in its tensors of whole numbers.

A copy that is compressed, encrypted or written in other numbers is not recognised.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from harness.core.errors import DataError
from harness.core.interfaces import LoadedModel
from harness.core.units import EOS
from harness.evaluation.audit.counts import text_of
from harness.evaluation.protocols import module_of
from harness.evaluation.scoring import TextSource
from harness.evaluation.token_text import TokenText
from harness.system.reading import read_bytes
from lm_models.plugin import source
from lm_models.plugin.adapter import Adapter

# Pieces at equal distances, and tokens of each. A training text may share some pieces with the text, a copy has all.
_PIECES, _TOKENS, _LEAST_TOKENS = 32, 48, 16
_SHARE = 0.25
_MOST_BYTES = 1 << 28  # of a file or a tensor
_NUMBERS = ("<u1", "<u2", "<u4", "<i8")


class Pieces:
    """Pieces of a text in every form in which a copy is looked for.

    Args:
        loaded: the model, whose vocabulary the text has.
        text: the text; one of fewer than 16 tokens has no pieces.
    """

    def __init__(self, loaded: LoadedModel, text: TextSource) -> None:
        self.numbers: list[list[bytes]] = []
        self.texts: list[list[bytes]] = []
        num_tokens = len(text.ids)
        if num_tokens < _LEAST_TOKENS:
            return
        length = min(_TOKENS, num_tokens)
        starts = np.linspace(0, num_tokens - length, min(_PIECES, num_tokens // length)).astype(int)
        pieces = [np.asarray(text.ids[start : start + length]) for start in starts]
        for number in _NUMBERS:
            if len(loaded.vocabulary) <= np.iinfo(number).max:
                self.numbers.append([piece.astype(number).tobytes() for piece in pieces])
        if loaded.reader is None and TokenText.of(loaded.vocabulary, loaded.unit) is not None:
            self.texts.append([_spaced(text_of(loaded, piece)) for piece in pieces])
            # With a space between symbols, as the files of Penn Treebank have it.
            symbols = ["" if each == EOS else each for each in loaded.vocabulary]
            self.texts.append([_spaced(" ".join(symbols[each] for each in piece).encode()) for piece in pieces])
        elif text.read is not None:
            content = _spaced(text.read.text)
            places = np.linspace(0, max(0, len(content) - _TOKENS), len(pieces)).astype(int)
            self.texts.append([content[place : place + _TOKENS] for place in places])

    def are_in(self, content: bytes) -> bool:
        """Whether some bytes hold a copy of the text, or more than a quarter of its pieces."""
        spaced = _spaced(content)
        places = [*((content, pieces) for pieces in self.numbers), *((spaced, pieces) for pieces in self.texts)]
        return any(np.mean([piece in where for piece in pieces]) > _SHARE for where, pieces in places)


def find(pieces: Pieces, loaded: LoadedModel, opened: Iterable[Path]) -> list[str]:
    """Where there is a copy of a text.

    Args:
        pieces: of the text.
        loaded: the model: its tensors and, if it is from outside, its source.
        opened: files that were opened while it was used.

    Returns:
        Files and tensors, in words.
    """
    if not pieces.numbers:
        return []
    found = []
    for path in sorted({*opened, *_sources(loaded)}):
        try:
            if path.is_file() and pieces.are_in(read_bytes(path, _MOST_BYTES)):
                found.append(f"{path} holds a copy of the text")
        except (OSError, DataError):
            continue
    for name, values in _whole_numbers(loaded):
        if pieces.are_in(values.astype("<i8").tobytes()):
            found.append(f"its tensor {name} holds a copy of the text")
    return found


def _spaced(text: bytes) -> bytes:
    """A text with one space for each run of blanks."""
    return b" ".join(text.split())


def _sources(loaded: LoadedModel) -> set[Path]:
    if not isinstance(loaded.model, Adapter):
        return set()
    module = type(loaded.model.model).__module__
    # A class of a notebook has no file.
    return source.files(module) if getattr(sys.modules.get(module), "__file__", None) else set()


def _whole_numbers(loaded: LoadedModel) -> Iterator[tuple[str, np.ndarray]]:
    for name, tensor in module_of(loaded.model).state_dict().items():
        if not (tensor.is_floating_point() or tensor.is_complex()) and tensor.numel() <= _MOST_BYTES // 8:
            yield name, tensor.cpu().numpy()
