"""Score an LSTM on one stream over a text as pieces side by side, with the value of reading it from the beginning.

One stream multiplies a vector with the weights at each token, which waits for memory; many streams use the processor. A
piece needs the state that its text before leaves, and a recurrent model forgets: reading some text before a piece from
zeros gives that state, or nearly. What is nearly right is found and mended:

1. Each piece reads the `warmup` tokens before it, and is scored from the state that this gives.
2. Where the piece before ends in another state than that, the piece is scored again from this end.
3. By induction from the first piece, all pieces that join are one stream, up to the rounding that a join allows.

A model that does not forget is scored piece after piece in the end, so nothing is assumed of what it forgets.
Letters: T time, B pieces, N targets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.core.interfaces import LanguageModel
from harness.core.scores import Pieces
from lm_models.awd_lstm.model import LstmLayer
from lm_models.recurrent import RecurrentModel
from lm_models.step import State, take_streams

# Most pieces, and most tokens and logits of a window of all: more are no faster on a CPU, and take memory.
_MOST_PIECES, _MOST_TOKENS, _MOST_LOGITS = 16, 1 << 13, 1 << 26

# Targets of a piece over its warm-up, at least: the warm-up is scored twice.
_MIN_LENGTH = 4

# Warm-up in tokens, rounded up to whole windows. After half of it a trained LSTM of 800 had not forgotten everything.
_WARMUP = 1024

# Largest difference of two states that join, in roundings of the largest value of a layer's state. The orders in which
# products are summed keep two readings of the same text up to 97 of them apart (measured), however long they are.
_ROUNDINGS = 128


# Called with tokens (T + 1, B) and the state before them; returns the losses (T, B) in nats and the state after them.
Read = Callable[[np.ndarray, State], tuple[np.ndarray, State]]


@dataclass(frozen=True, slots=True)
class Cut:
    """Pieces of `windows` windows of `window` targets each; the last one may be shorter. warmup: tokens."""

    num_targets: int
    window: int
    windows: int
    warmup: int

    @property
    def length(self) -> int:
        """Targets of a piece."""
        return self.windows * self.window

    @property
    def starts(self) -> np.ndarray:
        """Position of the token before the first target of each piece."""
        return np.arange(0, self.num_targets, self.length)


def cut(model: LanguageModel, num_targets: int, window: int) -> Cut | None:
    """Cut a text of so many targets, where windows of one stream begin.

    Returns:
        None if the model cannot be scored in pieces, or would be no faster.
    """
    # Others multiply all steps of a window at once; and the state of a class from outside may not be all it remembers.
    if type(model) is not RecurrentModel or any(type(layer) is not LstmLayer for layer in model.layers):
        return None
    warmup_windows = math.ceil(_WARMUP / window)
    windows = math.ceil(num_targets / window)
    most = min(_MOST_PIECES, _MOST_TOKENS // window, _MOST_LOGITS // (window * len(model.embedding)))
    each = max(_MIN_LENGTH * warmup_windows, math.ceil(windows / max(1, most)))
    return Cut(num_targets, window, each, warmup_windows * window) if most > 1 and each < windows else None


class InPieces:
    """The losses of a text that was cut.

    Args:
        ids: token ids (N + 1,).
        how: of `cut`.
        warm: state of all pieces after their warm-up, and zeros for the first.
        read: reads a window of some of the pieces.
        tick: called after each window with the number of its targets, 0 for those that are read again.
    """

    def __init__(self, ids: np.ndarray, how: Cut, warm: State, read: Read, tick: Callable[[int], None]) -> None:
        self.ids, self.how, self.read, self.tick = ids, how, read, tick
        pieces = range(len(how.starts))
        self.losses_BN = np.empty((len(pieces), how.length))
        self.starts = [take_streams(warm, slice(piece, piece + 1)) for piece in pieces]
        self.ends = list(self.starts)

    def score(self) -> tuple[np.ndarray, Pieces]:
        """Return the loss of each target (N,) in nats and text order, and how the pieces were joined."""
        pieces, again, rounds = range(len(self.starts)), 0, 0
        self._score(pieces, counts=True)
        while apart := [piece for piece in pieces[1:] if not self._joins(piece)]:
            # Only the first of them begins right for certain. The others do if a piece is enough for them to forget. If
            # a first round shows that it is not, they follow one after the other.
            if rounds > 1 or (rounds == 1 and 2 * len(apart) > again):
                rounds, apart = 2, apart[:1]
            for piece in apart:
                self.starts[piece] = self.ends[piece - 1]
            self._score(apart, counts=False)
            rounds, again = rounds + 1, again + len(apart)
        largest = float(np.max([_difference(self.ends[piece - 1], self.starts[piece]) for piece in pieces[1:]]))
        return self.losses_BN.ravel()[: self.how.num_targets], Pieces(len(pieces), self.how.warmup, again, largest)

    def _joins(self, piece: int) -> bool:
        # Also if it started from this very state, which may hold NaN.
        end, start = self.ends[piece - 1], self.starts[piece]
        return start is end or _difference(end, start) <= _ROUNDINGS

    def _score(self, pieces: Sequence[int], *, counts: bool) -> None:
        """Score pieces from their starts."""
        starts_B, state = self.how.starts[pieces], _together([self.starts[piece] for piece in pieces])
        for first in range(0, self.how.length, self.how.window):
            positions_TB = starts_B + first + np.arange(self.how.window + 1)[:, None]
            # The last piece may be shorter: it repeats the last token there, which is not counted, and nothing follows.
            nll_TB, state = self.read(self.ids[np.minimum(positions_TB, self.how.num_targets)], state)
            self.losses_BN[pieces, first : first + self.how.window] = nll_TB.T
            scored = np.clip(self.how.num_targets - starts_B - first, 0, self.how.window).sum()
            self.tick(int(scored) if counts else 0)
        for column, piece in enumerate(pieces):
            self.ends[piece] = take_streams(state, slice(column, column + 1))


def _together(states: list[State]) -> State:
    """The streams of several states as one state."""
    first = states[0]
    if isinstance(first, Tensor):
        return torch.cat([state for state in states if isinstance(state, Tensor)], dim=-2)
    return tuple(_together([state[part] for state in states]) for part in range(len(first)))


def _difference(one: State, other: State) -> float:
    """Largest difference of two states, in roundings of the largest value of the same part; NaN if one holds NaN."""
    if isinstance(one, Tensor):
        assert isinstance(other, Tensor)
        # 16 bits are compared as strictly as float32: their roundings would hide that a model does not forget.
        rounding = min(torch.finfo(one.dtype).eps, torch.finfo(torch.float32).eps)
        difference, scale = float((one.double() - other.double()).abs().max()), rounding * float(one.abs().max())
        if difference == 0:
            return 0.0
        return difference / scale if scale else math.inf
    return float(np.max([_difference(a, b) for a, b in zip(one, other, strict=True)]))
