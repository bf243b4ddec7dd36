"""Interface of a model for one BPTT window: its output, and the state that it carries to the next window.

A model is called as `model(inputs_TB, targets_TB, state)` and returns a StepOutput. Letters: T time, B stream.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

# A tensor or nested tuple of tensors, each (..., B, X)
State: TypeAlias = "Tensor | tuple[State, ...]"


class StepOutput(NamedTuple):
    """Output for one window.

    nll_TB: negative log-likelihood of each target in nats. state: input to the next window. penalty: scalar added to
    the mean nll in training (activation regularisation); zero in evaluation.
    """

    nll_TB: Tensor
    state: State
    penalty: Tensor


def detach(state: State) -> State:
    """Cut the autograd graph between windows: truncated back-propagation through time."""
    if isinstance(state, Tensor):
        return state.detach()
    return tuple(detach(part) for part in state)


def reset_streams(state: State, keep_B: Tensor) -> State:
    """Zero the state of the streams where keep_B, bool (B,), is False."""
    if isinstance(state, Tensor):
        return state * keep_B.unsqueeze(-1).to(state.dtype)
    return tuple(reset_streams(part, keep_B) for part in state)


def take_streams(state: State, columns: slice) -> State:
    """The state of some of the streams, in memory of its own."""
    if isinstance(state, Tensor):
        return state[..., columns, :].clone()
    return tuple(take_streams(part, columns) for part in state)


def step_over(model: Callable[..., StepOutput], tokens_TB: Tensor, state: State, device: torch.device) -> StepOutput:
    """Run a model over a window.

    A model may have a method `split_targets(targets_TB)` whose result is passed to its forward pass. It is called
    before the tokens go to the device, so that nothing waits for the device if they are still on the host.

    Args:
        model: the model.
        tokens_TB: (T + 1, B); every token but the first of a stream is a target.
        state: before the window.
        device: the model's device.
    """
    split = getattr(model, "split_targets", None)
    target_split = split(tokens_TB[1:]) if split is not None else None
    tokens_TB = to_device(tokens_TB, device)
    inputs_TB, targets_TB = tokens_TB[:-1], tokens_TB[1:]
    if target_split is None:
        return model(inputs_TB, targets_TB, state)
    return model(inputs_TB, targets_TB, state, target_split)


def to_device(tokens_TB: Tensor, device: torch.device) -> Tensor:
    """Copy tokens to a device without waiting for it."""
    # A copy from pageable memory would block. The pinned copy may be freed here: torch's host allocator does not reuse
    # its memory before the device has read it.
    if device.type == "cuda" and tokens_TB.device.type == "cpu":
        return tokens_TB.pin_memory().to(device, non_blocking=True)
    return tokens_TB


def targets_are_split(model: object) -> bool:
    """Whether `split_targets` of a model needs its targets on the host; see `step_over`."""
    split = getattr(model, "split_targets", None)
    return split is not None and split(torch.zeros(1, 1, dtype=torch.long)) is not None
