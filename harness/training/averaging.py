"""Averaged SGD and the rule that switches to it (NT-ASGD).

Merity, Keskar and Socher 2017, arXiv:1708.02182, section 3; awd-lstm-lm, `main.py`.

    >>> losses = [4.1, 4.0, 4.2]
    >>> non_monotone(losses, 4.05, patience=1)  # above 4.0, the least of all but the last one
    True
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from harness.training.optimizers import without_compiler

if TYPE_CHECKING:
    from harness.core.config.recipe import Recipe

ASGD = without_compiler(torch.optim.ASGD)


def non_monotone(earlier: Sequence[float], latest: float, patience: int) -> bool:
    """Whether a validation loss no longer falls.

    Args:
        earlier: losses of the validations before, oldest first.
        latest: loss of this validation.
        patience: how many of the last losses in `earlier` are ignored.

    Returns:
        True if more than `patience` losses came before and `latest` is above the least of the others.
    """
    return len(earlier) > patience and latest > min(earlier[:-patience])


def averaged_sgd(recipe: Recipe, model: object, parameters: Sequence[torch.nn.Parameter]) -> torch.optim.ASGD:
    """SGD that also averages the weights of all its steps.

    t0 = 0 and lambd = 0 as in awd-lstm-lm: average from the start, no decay of its own. Two properties of torch's ASGD
    are part of the official numbers: a step uses the learning rate set for the step before it (the first step its
    own), and the average excludes the weights after the first step.

    Args:
        recipe: lr, weight_decay and averaging.
        model: its `criterion_parameters`, if any, are left out under `averaging.official_handover`.
        parameters: the model's trained parameters.

    Returns:
        The optimiser; `averaged_weights` reads its averages.
    """
    excluded = set()
    if recipe.averaging is not None and recipe.averaging.official_handover:
        excluded = {id(parameter) for parameter in getattr(model, "criterion_parameters", list)()}
    trained = [parameter for parameter in parameters if id(parameter) not in excluded]
    return ASGD(
        trained,
        lr=recipe.lr,
        lambd=0.0,
        t0=0.0,
        weight_decay=recipe.weight_decay,
        # Keeps the scalars of its state on the device. Otherwise each step would wait for the device to read them.
        capturable=any(parameter.is_cuda for parameter in trained),
    )


def accumulated_gradients(
    optimizer: torch.optim.Optimizer, parameters: Sequence[torch.nn.Parameter]
) -> dict[str, torch.Tensor]:
    """Gradients of parameters that the optimiser does not train.

    Its `zero_grad` does not clear them, so they accumulate and count in the next step's clipped norm.

    Returns:
        `gradient.N` for parameter number N.
    """
    # Compared by id: equality of tensors is elementwise.
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return {
        f"gradient.{number}": parameter.grad
        for number, parameter in enumerate(parameters)
        if id(parameter) not in trained and parameter.grad is not None
    }


def restore_gradients(parameters: Sequence[torch.nn.Parameter], tensors: Mapping[str, torch.Tensor]) -> None:
    """Restore what `accumulated_gradients` returned."""
    for number, parameter in enumerate(parameters):
        if f"gradient.{number}" in tensors:
            parameter.grad = tensors[f"gradient.{number}"].to(parameter.device)


@contextmanager
def averaged_weights(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Swap the parameters for their averages, if the optimiser has any, and back at the end."""
    _swap(optimizer)
    try:
        yield
    finally:
        _swap(optimizer)


def _swap(optimizer: torch.optim.Optimizer) -> None:
    for parameter, quantities in optimizer.state.items():
        if "ax" in quantities:
            # A swap of pointers: no copy, and the same memory comes back at the second call.
            parameter.data, quantities["ax"] = quantities["ax"], parameter.data
