"""Blocks shared by the configs of recurrent models. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropout:
    """Probabilities of the five dropouts of Merity et al. 2017, arXiv:1708.02182, each in [0, 1).

    embedding: whole words. input: embedded inputs. hidden: between layers. output: before the softmax.
    weight: single entries of the recurrent matrix (LSTM) or of the whole linear map (QRNN).
    """

    __pydantic_config__ = {"extra": "forbid"}

    embedding: float = 0.0
    input: float = 0.0
    hidden: float = 0.0
    output: float = 0.0
    weight: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            check_probability(f"dropout.{field.name}", getattr(self, field.name))


def check_probability(name: str, value: float) -> None:
    """Raise ValueError unless value is in [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value}")


def check_size(name: str, value: int) -> None:
    """Raise ValueError unless value is at least 1."""
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def check_penalty(name: str, value: float) -> None:
    """Raise ValueError unless value is finite and not negative."""
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be finite and not negative, got {value}")


def layer_widths(*, layers: int, hidden: int, embedding: int, tie: bool) -> list[tuple[int, int]]:
    """Return (input, output) widths per layer: embedding -> hidden ... -> embedding, or -> hidden if not tied."""
    widths = [embedding, *[hidden] * (layers - 1), embedding if tie else hidden]
    return list(pairwise(widths))


def num_softmax_parameters(*, vocab_size: int, embedding: int, width: int, tie: bool) -> int:
    """Return the parameters of embedding and softmax together; tied, they share one matrix."""
    return vocab_size * embedding + vocab_size + (0 if tie else vocab_size * width)
