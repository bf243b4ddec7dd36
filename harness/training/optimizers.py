"""Optimisers, and the learning rate as a pure function of training progress."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from harness.core.config.recipe import Recipe, Schedule

Kind = TypeVar("Kind", bound=torch.optim.Optimizer)


def without_compiler(kind: type[Kind]) -> type[Kind]:
    """A subclass of an optimiser without torch's decorators for torch.compile.

    These import torch._dynamo when the optimiser is made, which takes longer than `import torch`. Outside of a compiled
    function they change nothing else: a step is made without gradients, as here.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    return type(kind.__name__, (kind,), {**methods, "step": torch.no_grad()(inspect.unwrap(kind.step))})


Adam = without_compiler(torch.optim.Adam)
SGD = without_compiler(torch.optim.SGD)


def make_optimizer(
    recipe: Recipe, parameters: Iterable[torch.nn.Parameter], *, in_graph: bool = False
) -> torch.optim.Optimizer:
    """Adam or SGD in torch's fused form.

    Weight decay is L2 in the gradient, as in awd-lstm-lm, and not decoupled as in AdamW.

    Args:
        recipe: optimizer, lr, betas and weight_decay.
        parameters: those with `requires_grad` are trained.
        in_graph: keep lr and the step count in device memory, where a CUDA graph reads their values at each replay.

    Returns:
        One parameter group over all trained parameters.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    # A float would be frozen into the graph as a kernel argument.
    lr: float | torch.Tensor = torch.tensor(recipe.lr, device=trained[0].device) if in_graph else recipe.lr
    if recipe.optimizer == "sgd":
        return SGD(trained, lr=lr, weight_decay=recipe.weight_decay, fused=True)
    return Adam(trained, lr=lr, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True, capturable=in_graph)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set lr of every group; in place if it is a tensor, whose address a CUDA graph has recorded."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def decay_factor(recipe: Recipe, epochs_done: int) -> float:
    """Factor of lr from stepwise decay: `recipe.decay_factor` once for each epoch of `decay_at` that is over."""
    return recipe.decay_factor ** sum(epoch <= epochs_done for epoch in recipe.decay_at)


def schedule_factor(schedule: Schedule, done: float) -> float:
    """Factor of lr from a schedule over the whole run.

    Args:
        schedule: kind and the shares of the run at which it changes.
        done: share of the run's tokens seen so far, 0 to 1; a last window may exceed 1.

    Returns:
        Rises from 0 to 1 during the warm-up, then 1, then falls to `schedule.final`.
    """
    if schedule.warmup > 0 and done < schedule.warmup:
        return done / schedule.warmup
    start = max(schedule.flat, schedule.warmup)
    if schedule.kind == "constant" or done <= start or start == 1:
        return 1.0
    # The last window may pass the planned end.
    fallen = min(1.0, (done - start) / (1 - start))
    if schedule.kind == "cosine":
        fallen = (1 - math.cos(math.pi * fallen)) / 2
    return 1 + (schedule.final - 1) * fallen


def state_to_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's state, one tensor for each parameter and quantity: `0.exp_avg`."""
    return {
        f"{index}.{name}": value
        for index, quantities in optimizer.state_dict()["state"].items()
        for name, value in quantities.items()
        if isinstance(value, torch.Tensor)
    }


def load_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Restore what `state_to_tensors` returned into an optimiser made from the same recipe."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for position, quantities in state.items():
        restored = optimizer.state[parameters[position]]
        # load_state_dict casts all but the step count to the weights' dtype, which would change the digits of averaged
        # SGD's scalars (eta, mu). Put back the tensors as they were saved.
        restored.update({name: tensor.to(restored[name].device) for name, tensor in quantities.items()})
