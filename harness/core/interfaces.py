"""Interfaces that packages share: a language model, a corpus, a loaded checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch

    from harness.core.scores import TextSize
    from lm_models.step import State, StepOutput


class LanguageModel(Protocol):
    """A model as the harness uses it. It owns its softmax and its penalties.

    Shape letters: T time, B stream, H hidden, V vocabulary, N any number of rows. A state is a tensor or a nested tuple
    of tensors of shape (..., B, X): the stream is the second last axis everywhere, so the harness can join, mask and
    detach streams without knowing the model.
    """

    # Source of every dropout mask; None means torch's default generator.
    generator: torch.Generator | None

    def initial_state(self, batch: int) -> State:
        """Zero state of `batch` streams."""
        ...

    def __call__(self, inputs_TB: torch.Tensor, targets_TB: torch.Tensor, state: State) -> StepOutput:
        """Train on one window: loss, penalties and the next state."""
        ...

    def features(self, inputs_TB: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Hidden vectors (T, B, H) of a window and the next state."""
        ...

    def log_probs(self, h_NH: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (N, V) of the next token, in nats."""
        ...

    def nll(self, h_NH: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
        """Loss of each target, shape (N,), in nats."""
        ...


class TextSizes(Protocol):
    """Measures the text of tokens."""

    @property
    def num_added(self) -> int:
        """Tokens before the text that are no part of it, such as one that marks its beginning."""
        ...

    def size(self, ids: np.ndarray, first: int = 0, stop: int | None = None) -> TextSize:
        """Size of the text of the tokens [first, stop) of a split, whose complete ids (N,) are given."""
        ...


@dataclass(frozen=True, slots=True)
class Corpus:
    """A prepared dataset, its unit `byte`, `char` or `word`.

    `splits` are memory-mapped token ids, each of shape (N,); `vocabulary` has the text of each id, for bytes the
    number; `num_units` per split is what a metric may divide by; `limits` are the best values that the data allows, by
    metric, where they are known; `manifest` has sources, checksums and counts, as the record holds them. `read` has
    each split's text where the vocabulary cannot say it, for a pretrained model's own tokens.
    """

    name: str
    unit: str
    splits: Mapping[str, np.ndarray]
    vocabulary: Sequence[str]
    num_units: Mapping[str, int]
    limits: Mapping[str, float]
    manifest: Mapping[str, Any]
    read: Mapping[str, ReadText] = field(default_factory=dict)

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)


class ReadText(TextSizes, Protocol):
    """A text as a model's own tokeniser reads it: token ids (N,), and what `harness.evaluation.pretrained` says."""

    @property
    def ids(self) -> np.ndarray: ...

    @property
    def text(self) -> bytes: ...

    @property
    def ends(self) -> np.ndarray: ...

    @property
    def sha256(self) -> str: ...

    @property
    def begin(self) -> str | None: ...

    @property
    def size_read(self) -> TextSize: ...


class TextReader(Protocol):
    """Reads a text file with a model's own tokeniser."""

    @property
    def reading(self) -> str:
        """How, in words."""
        ...

    def read(self, path: Path) -> ReadText:
        """The text. Raises DataError if it cannot be read."""
        ...


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to score and to generate text.

    block: the `model` of a suite's entry. dtype: of the computation. weights_dtype: of the stored weights. sha256: of
    the weights. origin: the file that an imported checkpoint was made from. reader: reads texts for a pretrained model,
    whose tokens are not symbols, characters or words.
    """

    folder: Path
    model: LanguageModel
    block: Mapping[str, Any]
    dtype: str
    weights_dtype: str
    vocabulary: list[str]
    unit: str
    sha256: str
    device: str
    origin: Mapping[str, Any] | None = None
    reader: TextReader | None = None


@dataclass(frozen=True, slots=True)
class SplitFile:
    """The verified file of one split, and the identity of its dataset."""

    dataset: str
    split: str
    path: Path
    identity: Mapping[str, Any]
