"""The interfaces of a language model and a corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch

    from models.step import State, StepOutput


class LanguageModel(Protocol):
    """What the harness asks of a model: it owns its softmax and its penalties.

    A state is a tensor or a nested tuple of tensors shaped (..., B, X): the stream is the
    second last axis of every one, so that streams can be joined, masked and detached blindly.
    """

    generator: torch.Generator | None
    """Source of every dropout mask; None means torch's default generator."""

    def initial_state(self, batch: int) -> State: ...

    def __call__(self, inputs_TB: torch.Tensor, targets_TB: torch.Tensor, state: State) -> StepOutput: ...

    def features(self, inputs_TB: torch.Tensor, state: State) -> tuple[torch.Tensor, State]: ...

    def log_probs(self, h_NH: torch.Tensor) -> torch.Tensor: ...

    def nll(self, h_NH: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True, slots=True)
class Corpus:
    """A prepared dataset. Splits are memory-mapped one-dimensional arrays of token ids.

    vocabulary[i] is the text of token i (for bytes, the number as a string). num_units counts per
    split what a metric may divide by. manifest holds sources, checksums and counts as recorded.
    """

    name: str
    unit: str
    splits: Mapping[str, np.ndarray]
    vocabulary: Sequence[str]
    num_units: Mapping[str, int]
    limits: Mapping[str, float]
    manifest: Mapping[str, Any]

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to score and to generate text.

    block: the `model` of a suite's entry. dtype: of the computation. weights_dtype: of the stored weights. sha256: of
    the weights. origin: the file that an imported checkpoint was made from.
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


@dataclass(frozen=True, slots=True)
class SplitFile:
    """The file of a split, whose checksum was just found right, and the identity of the dataset it belongs to."""

    dataset: str
    split: str
    path: Path
    identity: Mapping[str, Any]
