"""Code tokens by rows of probabilities, with the range coder of `constriction`.

A probability becomes a multiple of 2^-24, at least one of them. In a larger vocabulary the multiples lost to unlikely
tokens would show, so a token is coded there as two symbols: its row in a square, and its column. Letters: S rows, each
the distribution of one token; V vocabulary; R, C rows and columns of the square.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

from harness.core.errors import CheckpointError, DataError

_ONE_SYMBOL = 1024


def library() -> ModuleType:
    """The module `constriction`. Raises CheckpointError with what to install if it is missing."""
    try:
        import constriction
    except ImportError:
        raise CheckpointError("coding a text needs constriction: pip install 'lm-harness[audit]'") from None
    module: ModuleType = constriction
    return module


class Encoder:
    """Appends tokens to a code."""

    def __init__(self) -> None:
        self._coder: Any = library().stream.queue.RangeEncoder()
        self._categorical = library().stream.model.Categorical(perfect=False)

    def encode(self, tokens_S: np.ndarray, probs_SV: np.ndarray) -> None:
        """Append a token for each row.

        Args:
            tokens_S: below V.
            probs_SV: float64; each row is normalised here.

        Raises:
            ValueError: a row is no distribution.
        """
        if probs_SV.shape[1] <= _ONE_SYMBOL:
            self._append(tokens_S, probs_SV)
            return
        # Two symbols of about sqrt(V) choices: the coder builds a table for each row that it codes with.
        probs_SRC = _square(probs_SV)
        rows_S, columns_S = np.divmod(tokens_S, probs_SRC.shape[2])
        self._append(rows_S, probs_SRC.sum(2))
        self._append(columns_S, _columns(probs_SRC, rows_S))

    def words(self) -> np.ndarray:
        """The code: uint32."""
        code: np.ndarray = self._coder.get_compressed()
        return code

    def _append(self, symbols_S: np.ndarray, probs_SV: np.ndarray) -> None:
        self._coder.encode(symbols_S.astype(np.int32), self._categorical, np.ascontiguousarray(probs_SV))


class Decoder:
    """Reads tokens from a code (uint32)."""

    def __init__(self, words: np.ndarray) -> None:
        self._coder: Any = library().stream.queue.RangeDecoder(words)
        self._categorical = library().stream.model.Categorical(perfect=False)

    def decode(self, probs_SV: np.ndarray) -> np.ndarray:
        """The next token of each row.

        Args:
            probs_SV: as they were encoded, to the last bit.

        Returns:
            Tokens (S,), int64. Those of a damaged code may be V or more.

        Raises:
            ValueError: a row is no distribution.
            DataError: the code does not go on with any token.
        """
        if probs_SV.shape[1] <= _ONE_SYMBOL:
            return self._next(probs_SV)
        probs_SRC = _square(probs_SV)
        rows_S = self._next(probs_SRC.sum(2))
        tokens_S: np.ndarray = rows_S * probs_SRC.shape[2] + self._next(_columns(probs_SRC, rows_S))
        return tokens_S

    def _next(self, probs_SV: np.ndarray) -> np.ndarray:
        try:
            symbols_S: np.ndarray = self._coder.decode(self._categorical, np.ascontiguousarray(probs_SV))
        except AssertionError:
            raise DataError("the file is damaged, or the model's probabilities have other bits here") from None
        return symbols_S.astype(np.int64)


def _square(probs_SV: np.ndarray) -> np.ndarray:
    """The distributions as rows and columns of about equal number (S, R, C), the end filled with zeros."""
    size = probs_SV.shape[1]
    columns = math.isqrt(size - 1) + 1
    rows = math.ceil(size / columns)
    return np.pad(probs_SV, ((0, 0), (0, rows * columns - size))).reshape(len(probs_SV), rows, columns)


def _columns(probs_SRC: np.ndarray, rows_S: np.ndarray) -> np.ndarray:
    """One row of each square (S, C). One that is all zero gets equal probabilities, in case a text holds it."""
    probs_SC: np.ndarray = probs_SRC[np.arange(len(rows_S)), rows_S]
    probs_SC[~probs_SC.any(1)] = 1.0
    return probs_SC
