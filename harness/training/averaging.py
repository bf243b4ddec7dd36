"""Averaged SGD and the rule that turns to it. Merity et al. 2017, arXiv:1708.02182, section 3; awd-lstm-lm, main.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from harness.config.recipe import Recipe


def non_monotone(earlier: Sequence[float], latest: float, patience: int) -> bool:
    """Whether a loss is above the least of all but the last `patience` of those before it, of which there are more."""
    return len(earlier) > patience and latest > min(earlier[:-patience])


def averaged_sgd(recipe: Recipe, model: Any, parameters: Sequence[torch.nn.Parameter]) -> torch.optim.ASGD:
    """SGD that averages what it passes through, with t0 = 0 and lambd = 0, as torch has it.

    Over `parameters`, of which `official_handover` leaves out the model's `criterion_parameters`. Two of torch's ways
    are part of the official numbers: each step uses the learning rate that was set for the step before (the first its
    own), and the average leaves the first step out.
    """
    left_out = set()
    if recipe.averaging is not None and recipe.averaging.official_handover:
        left_out = {id(parameter) for parameter in getattr(model, "criterion_parameters", list)()}
    chosen = [parameter for parameter in parameters if id(parameter) not in left_out]
    return torch.optim.ASGD(
        chosen,
        lr=recipe.lr,
        lambd=0.0,
        t0=0.0,
        weight_decay=recipe.weight_decay,
        # Keeps the scalars of its state on the device, which is otherwise waited for at every step.
        capturable=any(parameter.is_cuda for parameter in chosen),
    )


def left_over_gradients(
    optimizer: torch.optim.Optimizer, parameters: Sequence[torch.nn.Parameter]
) -> dict[str, torch.Tensor]:
    """Gradients of parameters the optimiser does not have: it does not clear them, and they count at the next step."""
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return {
        f"gradient.{number}": parameter.grad
        for number, parameter in enumerate(parameters)
        if id(parameter) not in trained and parameter.grad is not None
    }


def restore_gradients(parameters: Sequence[torch.nn.Parameter], tensors: Mapping[str, torch.Tensor]) -> None:
    """The inverse of left_over_gradients."""
    for number, parameter in enumerate(parameters):
        if f"gradient.{number}" in tensors:
            parameter.grad = tensors[f"gradient.{number}"].to(parameter.device)


@contextmanager
def averaged_weights(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Let the parameters hold their averages, where the optimiser keeps some, and the averages the parameters."""
    _exchange(optimizer)
    try:
        yield
    finally:
        _exchange(optimizer)


def _exchange(optimizer: torch.optim.Optimizer) -> None:
    for parameter, quantities in optimizer.state.items():
        if "ax" in quantities:
            parameter.data, quantities["ax"] = quantities["ax"], parameter.data
