"""What a benchmark must know of each op: how it is called, what it is compared with, what it must move and compute.

Letters: T time, B stream, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import kernels
from harness.timing.clocks import Candidate
from kernels.cases import Case, FoPoolCase, Inputs, LstmCase, Tolerance, WeightDropCase, tolerance
from kernels.fo_pool import chain as fo_pool_chain
from kernels.weight_drop import chain as weight_drop_chain

Kernel = Callable[..., Any]
"""A backend: returns a tensor or a tuple of them."""

FORWARD, BACKWARD = "forward", "backward"
DIRECTIONS = (FORWARD, BACKWARD)
REFERENCE, CHAIN = "reference", "chain"

AUTOCAST_TOLERANCE = Tolerance(absolute=2e-2, relative=5e-2)
"""Between two ways of computing in bfloat16 throughout: each step rounds anew, and the reference itself errs as far."""

CHAINS: dict[str, Kernel] = {"fo_pool": fo_pool_chain.fo_pool, "weight_drop": weight_drop_chain.weight_drop}
"""The plain way of doing what an op does, operation by operation. That of weight_drop draws masks of its own."""


@dataclass(frozen=True, slots=True)
class Work:
    """Bytes that have to move whatever the implementation, and floating point operations of matrix products."""

    bytes_moved: int
    flops: int | None


def work(case: Case, dtype: torch.dtype) -> dict[str, Work]:
    """What one call of a case costs at least, per direction."""
    size = dtype.itemsize
    wide = torch.promote_types(dtype, torch.float32).itemsize
    if isinstance(case, FoPoolCase):
        cells = case.steps * case.streams * case.hidden
        masks = 0 if case.keep == 1 else wide
        # forward: z, f, o in, h and c out; backward: those three, c and the gradient of h in, three gradients out.
        forward = cells * (3 * size + 2 * wide + masks)
        backward = cells * (6 * size + 2 * wide + masks)
        return {FORWARD: Work(forward, None), BACKWARD: Work(backward, None)}
    if isinstance(case, WeightDropCase):
        both = Work(2 * size * case.rows * case.columns, None)  # a weight or a gradient in, one out
        return {FORWARD: both, BACKWARD: both}
    rows = case.steps * case.streams
    weights = 4 * case.hidden * (case.inputs + case.hidden + 2)
    flops = 2 * rows * 4 * case.hidden * (case.inputs + case.hidden)
    forward = size * (rows * (case.inputs + case.hidden) + weights)
    backward = size * (rows * (2 * case.inputs + 2 * case.hidden) + 2 * weights)
    return {FORWARD: Work(forward, flops), BACKWARD: Work(backward, 2 * flops)}


def working_set_bytes(case: Case, dtype: torch.dtype) -> int:
    """What forward and backward of a case hold between them."""
    return sum(part.bytes_moved for part in work(case, dtype).values())


def comparison(op: str) -> tuple[str, Kernel]:
    """Name and function of the plain way: the chain of separate operations, for the LSTM the reference's steps."""
    if op in CHAINS:
        return CHAIN, CHAINS[op]
    return REFERENCE, kernels.resolve(op, REFERENCE)[1]


def case_for(op: str, *, steps: int, streams: int, inputs: int, hidden: int, keep: float = 1.0) -> Case:
    """The case of a layer of these sizes."""
    if op == "fo_pool":
        return FoPoolCase(steps, streams, hidden, keep=keep)
    return LstmCase(steps, streams, inputs, hidden)


def candidate(name: str, function: Kernel, inputs: Inputs) -> Candidate:
    """Forward, then the backward of that very forward: the gradient reaches the first output, as in training."""
    gradient: list[Tensor] = []

    def forward(_: Any) -> Tensor:
        return inputs.call(function)[0]

    def backward(output: Tensor) -> tuple[Tensor, ...]:
        if not gradient:
            gradient.append(torch.ones_like(output))
        # Which inputs a gradient must reach is the same for all: a layer's input and weights, and the carried state.
        return torch.autograd.grad(output, inputs.leaves, gradient[0])

    return Candidate(name, {FORWARD: forward, BACKWARD: backward})


def results(function: Kernel, inputs: Inputs) -> dict[str, Tensor]:
    """Every output, and the gradient of every leaf under a loss that weighs each output at random.

    The weights are the same numbers whatever the outputs' dtype: a generator gives each dtype others.
    """
    outputs = inputs.call(function)
    draw = torch.Generator().manual_seed(9)
    weights = [torch.randn(out.shape, generator=draw, dtype=torch.float64).to(out) for out in outputs]
    gradients = torch.autograd.grad(outputs, inputs.leaves, weights)
    return {
        **{name: out.detach() for name, out in zip(inputs.output_names, outputs, strict=True)},
        **{f"gradient of {name}": value for name, value in zip(inputs.leaf_names, gradients, strict=True)},
    }


def disagreement(found: dict[str, Tensor], wanted: dict[str, Tensor], *, autocast: bool = False) -> str | None:
    """The first tensor that is not what it should be, in words; None where all are within the cases' tolerance.

    Under autocast dtypes may differ, and every product is rounded to half precision on either side.
    """
    for name, right in wanted.items():
        value = found[name]
        if value.shape != right.shape or (value.dtype != right.dtype and not autocast):
            return f"{name} is {_kind(value)}, the reference's is {_kind(right)}"
        if not right.numel():
            continue
        error = (value.to(right.dtype) - right).abs().max().item()
        allowed = (AUTOCAST_TOLERANCE if autocast else tolerance(right.dtype)).allowed(right)
        if not error <= allowed:  # also where either is NaN
            return f"{name} is off by {error:.2g}, allowed are {allowed:.2g}"
    return None


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
