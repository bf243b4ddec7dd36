"""What a model hands back for one BPTT window, and how its state is carried."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
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


def step_over(model: Callable[..., StepOutput], tokens_TB: Tensor, state: State, device: torch.device) -> StepOutput:
    """Run a model over a window, tokens (T + 1, B): each but the first is a target.

    A model with a method `split_targets` is shown the targets here, so that it need not ask the device for them later:
    where it makes anything of them, the tokens should still be on the host. Then nothing waits for the device.
    """
    split = getattr(model, "split_targets", None)
    known = split(tokens_TB[1:]) if split is not None else None
    tokens_TB = sent(tokens_TB, device)
    inputs_TB, targets_TB = tokens_TB[:-1], tokens_TB[1:]
    return model(inputs_TB, targets_TB, state) if known is None else model(inputs_TB, targets_TB, state, known)


def sent(tokens_TB: Tensor, device: torch.device) -> Tensor:
    """Tokens on the device. The host does not wait for a CUDA device, as it would where the copy's source is pageable.

    Nothing need keep the pinned copy: torch hands its memory out again only after the device has read it.
    """
    if device.type == "cuda" and tokens_TB.device.type == "cpu":
        return tokens_TB.pin_memory().to(device, non_blocking=True)
    return tokens_TB


def targets_are_split(model: object) -> bool:
    """Whether a model wants to be shown its targets on the host; see `step_over`."""
    split = getattr(model, "split_targets", None)
    return split is not None and split(torch.zeros(1, 1, dtype=torch.long)) is not None
