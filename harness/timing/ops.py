"""Each op for a benchmark: how it is called, what it is compared with, and the least it must move and compute.

Shape letters: T time, B stream, I input, H hidden.

    >>> work(FoPoolCase(10, 4, 8), torch.float32)["forward"]  # z, f, o in, h and c out: 5 values of 4 bytes per cell
    Work(bytes_moved=6400, flops=None)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import lm_kernels
from harness.timing.clocks import Candidate
from lm_kernels.cases import Case, FoPoolCase, Inputs, Tolerance, WeightDropCase, tolerance
from lm_kernels.fo_pool import chain as fo_pool_chain
from lm_kernels.weight_drop import chain as weight_drop_chain

# A backend; returns a tensor or a tuple of them.
Kernel = Callable[..., Any]

FORWARD, BACKWARD = "forward", "backward"
DIRECTIONS = (FORWARD, BACKWARD)
REFERENCE, CHAIN = "reference", "chain"

# The op as a chain of torch operations. That of weight_drop draws its own masks, so it is timed but not compared.
CHAINS: dict[str, Kernel] = {"fo_pool": fo_pool_chain.fo_pool, "weight_drop": weight_drop_chain.weight_drop}


@dataclass(frozen=True, slots=True)
class Work:
    """Bytes that any implementation must move, and floating point operations of its matrix products."""

    bytes_moved: int
    flops: int | None


def work(case: Case, dtype: torch.dtype) -> dict[str, Work]:
    """The least that one call of a case costs.

    Args:
        case: op and sizes.
        dtype: of inputs and outputs; carried cells have at least 32 bits.

    Returns:
        Work by direction.
    """
    size = dtype.itemsize
    wide = torch.promote_types(dtype, torch.float32).itemsize
    if isinstance(case, FoPoolCase):
        cells = case.steps * case.streams * case.hidden
        masks = 0 if case.keep == 1 else wide
        # forward: z, f, o in, h and c out; backward: those three, c and the gradient of h in, three gradients out.
        forward = cells * (5 * size + masks)
        backward = cells * (8 * size + masks)
        return {FORWARD: Work(forward, None), BACKWARD: Work(backward, None)}
    if isinstance(case, WeightDropCase):
        both = Work(2 * size * case.rows * case.columns, None)  # a weight or a gradient in, one out
        return {FORWARD: both, BACKWARD: both}
    rows = case.steps * case.streams
    weights = 4 * case.hidden * (case.inputs + case.hidden + 2)
    # Four gates of a product with the input and one with the state. Backward needs two products for each.
    flops = 2 * rows * 4 * case.hidden * (case.inputs + case.hidden)
    forward = size * (rows * (case.inputs + case.hidden) + weights)
    backward = size * (rows * (2 * case.inputs + 2 * case.hidden) + 2 * weights)
    return {FORWARD: Work(forward, flops), BACKWARD: Work(backward, 2 * flops)}


def working_set_bytes(case: Case, dtype: torch.dtype) -> int:
    """Bytes that forward and backward of a case move together."""
    return sum(part.bytes_moved for part in work(case, dtype).values())


def comparison(op: str) -> tuple[str, Kernel]:
    """Name and function that speed-ups are relative to: the chain, for the LSTM the reference's loop over steps."""
    if op in CHAINS:
        return CHAIN, CHAINS[op]
    return REFERENCE, lm_kernels.resolve(op, REFERENCE)[1]


def candidate(name: str, function: Kernel, inputs: Inputs) -> Candidate:
    """Forward, then the backward of the same call.

    Returns:
        A candidate with the phases of `DIRECTIONS`. The gradient enters at the first output, as in training.
    """
    gradient: list[Tensor] = []

    def forward(_: Any) -> Tensor:
        return inputs.call(function)[0]

    def backward(output: Tensor) -> tuple[Tensor, ...]:
        if not gradient:  # made once: its allocation is not part of the op
            gradient.append(torch.ones_like(output))
        return torch.autograd.grad(output, inputs.leaves, gradient[0])

    return Candidate(name, {FORWARD: forward, BACKWARD: backward})


def results(function: Kernel, inputs: Inputs) -> dict[str, Tensor]:
    """Every output, and the gradient of every leaf under a loss that weights the outputs at random.

    Returns:
        Tensors by name; gradients as `gradient of x`.
    """
    outputs = inputs.call(function)
    draw = torch.Generator().manual_seed(9)
    # Drawn in float64 and converted: a generator gives each dtype other numbers.
    weights = [torch.randn(out.shape, generator=draw, dtype=torch.float64).to(out) for out in outputs]
    gradients = torch.autograd.grad(outputs, inputs.leaves, weights)
    return {
        **{name: out.detach() for name, out in zip(inputs.output_names, outputs, strict=True)},
        **{f"gradient of {name}": value for name, value in zip(inputs.leaf_names, gradients, strict=True)},
    }


def disagreement(
    actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], allowed: Tolerance | None = None
) -> str | None:
    """Compare a backend's results with the reference's.

    Args:
        actual: as `results` returns them.
        expected: those of the reference.
        allowed: for results in half precision, against a reference in more bits: dtypes may differ then. None for the
            tolerance of the reference's dtype.

    Returns:
        The first tensor that is wrong, in words; None if all are within tolerance.
    """
    for name, right in expected.items():
        value = actual[name]
        if value.shape != right.shape or (value.dtype != right.dtype and allowed is None):
            return f"{name} is {_kind(value)}, the reference's is {_kind(right)}"
        if not right.numel():
            continue
        error = (value.to(right.dtype) - right).abs().max().item()
        most = (allowed or tolerance(right.dtype)).allowed(right)
        if not error <= most:  # also if either is NaN
            return f"{name} is off by {error:.2g}, allowed are {most:.2g}"
    return None


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
