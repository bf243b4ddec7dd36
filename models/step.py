"""What a model hands back for one BPTT window, and how its state is carried."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from torch import Tensor

State: TypeAlias = "Tensor | tuple[State, ...]"
"""A tensor or nested tuple of tensors, each shaped (..., B, X)."""


class StepOutput(NamedTuple):
    """nll_TB: negative log-likelihood of each target in nats. state: to carry into the next window.

    penalty: scalar added to the mean nll in training (activation regularisation); zero in evaluation.
    """

    nll_TB: Tensor
    state: State
    penalty: Tensor


def detach(state: State) -> State:
    """Cut the graph at a window's edge: truncated back-propagation through time."""
    if isinstance(state, Tensor):
        return state.detach()
    return tuple(detach(part) for part in state)


def reset_streams(state: State, keep_B: Tensor) -> State:
    """Zero the streams where keep_B is False. keep_B: bool, shape (B,)."""
    if isinstance(state, Tensor):
        return state * keep_B.unsqueeze(-1).to(state.dtype)
    return tuple(reset_streams(part, keep_B) for part in state)
