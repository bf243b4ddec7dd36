"""Optimisers and the learning rate as a pure function of how far training has come."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from harness.config.recipe import Recipe, Schedule


def make_optimizer(
    recipe: Recipe, parameters: Iterable[torch.nn.Parameter], *, in_graph: bool = False
) -> torch.optim.Optimizer:
    """Adam or SGD with L2 weight decay in the gradient, as the official code has it, in torch's fused form.

    in_graph: lr is a tensor on the device and the step counter lies beside it, so that a CUDA graph reads both anew.
    """
    chosen = [parameter for parameter in parameters if parameter.requires_grad]
    lr: float | torch.Tensor = torch.tensor(recipe.lr, device=chosen[0].device) if in_graph else recipe.lr
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(chosen, lr=lr, weight_decay=recipe.weight_decay, fused=True)
    return torch.optim.Adam(
        chosen, lr=lr, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True, capturable=in_graph
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set lr of every group; one that is a tensor keeps its place in memory."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def decay_factor(recipe: Recipe, epochs_done: int) -> float:
    """lr is multiplied by decay_factor once for each epoch of decay_at that is over."""
    return recipe.decay_factor ** sum(epoch <= epochs_done for epoch in recipe.decay_at)


def schedule_factor(schedule: Schedule, done: float) -> float:
    """Factor of lr when the share `done` (0 to 1) of the run's tokens has been seen."""
    if schedule.warmup > 0 and done < schedule.warmup:
        return done / schedule.warmup
    start = max(schedule.flat, schedule.warmup)
    if schedule.kind == "constant" or done <= start or start == 1:
        return 1.0
    falling = min(1.0, (done - start) / (1 - start))
    if schedule.kind == "cosine":
        falling = (1 - math.cos(math.pi * falling)) / 2
    return 1 + (schedule.final - 1) * falling


def state_to_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's state, one tensor per parameter and quantity: `0.exp_avg`."""
    return {
        f"{index}.{name}": value
        for index, quantities in optimizer.state_dict()["state"].items()
        for name, value in quantities.items()
        if isinstance(value, torch.Tensor)
    }


def load_state(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """The inverse of state_to_tensors; the parameter groups are rebuilt from the recipe, not stored."""
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for position, quantities in state.items():
        own = optimizer.state[parameters[position]]
        # torch has cast all but the step count to the weights' dtype: averaged SGD's scalars would lose or gain digits.
        own.update({name: tensor.to(own[name].device) for name, tensor in quantities.items()})
