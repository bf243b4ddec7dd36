"""The matrix products of a training step, recorded while it runs and computed again alone.

Letters: T time, B stream, I input, H hidden, G = 4 H gates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

HOLLOW = "hollow"
"""Name under which `hollow_lstm` stands among the LSTM's backends while products are recorded."""

aten = torch.ops.aten
_OPERANDS = {aten.mm.default: 0, aten.addmm.default: 1, aten.bmm.default: 0, aten.baddbmm.default: 1}
"""Matrix products -> position of the left operand among their arguments."""


@dataclass(frozen=True, slots=True)
class Operand:
    """Shape and strides: a transposed matrix is multiplied along another path than a plain one."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> Operand:
        return cls(tuple(tensor.shape), tuple(tensor.stride()))


@dataclass(frozen=True, slots=True)
class Product:
    """One product of a step, `count` times over the same operands."""

    left: Operand
    right: Operand
    count: int = 1

    @property
    def flops(self) -> int:
        *_, rows, inner = self.left.shape
        batch = self.left.shape[0] if len(self.left.shape) == 3 else 1
        return 2 * batch * rows * inner * self.right.shape[-1] * self.count


def record(step: Callable[[], Any]) -> list[Product]:
    """Run `step`, which may include a backward, and return its products in order.

    Layers that hide their products in a library call are to run hollow: see `hollow_lstm`.
    """
    _hidden.clear()
    with _Recorder() as recorder:
        step()
    return [*recorder.products, *_hidden]


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.products: list[Product] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        place = _OPERANDS.get(func)
        if place is not None:
            self.products.append(Product(Operand.of(args[place]), Operand.of(args[place + 1])))
        return func(*args, **(kwargs or {}))


_hidden: list[Product] = []


def hollow_lstm(
    x_TBI: Tensor,
    h0_BH: Tensor,
    c0_BH: Tensor,
    weight_ih_GI: Tensor,
    weight_hh_GH: Tensor,
    bias_ih_G: Tensor,
    bias_hh_G: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Stand in for `kernels.lstm`: right shapes, a gradient to every input, no product computed but each one noted."""
    _hidden.extend(lstm_products(x_TBI, weight_hh_GH))
    touched = sum(part.mean() for part in (weight_ih_GI, weight_hh_GH, bias_ih_G, bias_hh_G))
    h_TBH = h0_BH + x_TBI.mean(dim=-1, keepdim=True) + touched
    return h_TBH, h_TBH[-1], c0_BH + touched


def lstm_products(x_TBI: Tensor, weight_hh_GH: Tensor) -> list[Product]:
    """What an LSTM layer cannot do without: over all steps at once where it can be, per step in the recurrence."""
    steps, streams, inputs = x_TBI.shape
    gates, hidden = weight_hh_GH.shape
    rows = steps * streams

    def product(rows: int, inner: int, columns: int, count: int = 1) -> Product:
        return Product(Operand((rows, inner), (inner, 1)), Operand((inner, columns), (columns, 1)), count)

    forward = [product(rows, inputs, gates), product(streams, hidden, gates, steps)]
    backward = [
        product(streams, gates, hidden, steps),
        product(gates, rows, hidden),
        product(gates, rows, inputs),
    ]
    to_inputs = [product(rows, gates, inputs)] if x_TBI.requires_grad else []
    return forward + backward + to_inputs


def replay(products: Sequence[Product], device: torch.device | str) -> Callable[[], None]:
    """Return a function that computes all products once, in float32, over operands and results laid out beforehand."""
    ready = []
    for each in products:
        left, right = (_filled(operand, device) for operand in (each.left, each.right))
        shape = (*each.left.shape[:-1], each.right.shape[-1])
        ready.append((left, right, torch.empty(shape, device=device), each.count))

    def run() -> None:
        for left, right, out, count in ready:
            for _ in range(count):
                torch.matmul(left, right, out=out)

    return run


def _filled(operand: Operand, device: torch.device | str) -> Tensor:
    made = torch.empty_strided(operand.shape, operand.strides, device=device)
    return made.normal_(std=0.01)
