"""The matrix products of a training step: recorded while it runs, then computed alone.

Letters: T time, B stream, I input, H hidden, G = 4 H gates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Name of `placeholder_lstm` among the LSTM's backends, in the process that records.
PLACEHOLDER = "placeholder"

aten = torch.ops.aten
# Matrix products -> position of the left operand among their arguments
_OPERANDS = {aten.mm.default: 0, aten.addmm.default: 1, aten.bmm.default: 0, aten.baddbmm.default: 1}


@dataclass(frozen=True, slots=True)
class Product:
    """One matrix product, computed `count` times over the same operands.

    The operands are on the device `meta`: shape and strides alone, because a GEMM takes a different path for a
    transposed matrix.
    """

    left: Tensor
    right: Tensor
    count: int = 1

    @property
    def flops(self) -> int:
        return 2 * self.left.numel() * self.right.shape[-1] * self.count


def record(step: Callable[[], Any]) -> list[Product]:
    """Run a step, backward included, and return its products in order.

    Products inside a library call cannot be seen: LSTM layers must run as `placeholder_lstm`.
    """
    _placeholder_products.clear()
    with _Recorder() as recorder:
        step()
    return [*recorder.products, *_placeholder_products]


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.products: list[Product] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        left = _OPERANDS.get(func)
        if left is not None:
            self.products.append(Product(_like(args[left], "meta"), _like(args[left + 1], "meta")))
        return func(*args, **(kwargs or {}))


# What `placeholder_lstm` noted during `record`
_placeholder_products: list[Product] = []


def placeholder_lstm(
    x_TBI: Tensor,
    h0_BH: Tensor,
    c0_BH: Tensor,
    weight_ih_GI: Tensor,
    weight_hh_GH: Tensor,
    bias_ih_G: Tensor,
    bias_hh_G: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """A backend of `lstm` that notes its products instead of computing them.

    Returns:
        Tensors of the right shapes, with a gradient for every input.
    """
    (steps, streams), inputs = x_TBI.shape[:2], weight_ih_GI.shape[1]
    gates, hidden = weight_hh_GH.shape
    rows = steps * streams
    # Recurrent ones are per step; those of the inputs are over all steps at once, and none for symbols. All but the
    # first of both are of the backward pass.
    products = [(streams, hidden, gates, steps), (streams, gates, hidden, steps), (gates, rows, hidden, 1)]
    if x_TBI.is_floating_point():
        products += [(rows, inputs, gates, 1), (gates, rows, inputs, 1)]
    if x_TBI.requires_grad:
        products.append((rows, gates, inputs, 1))
    for size, inner, columns, count in products:
        left, right = torch.empty(size, inner, device="meta"), torch.empty(inner, columns, device="meta")
        _placeholder_products.append(Product(left, right, count))
    parameters = sum(part.mean() for part in (weight_ih_GI, weight_hh_GH, bias_ih_G, bias_hh_G))
    h_TBH = h0_BH + x_TBI.to(h0_BH.dtype).view(steps, streams, -1).mean(dim=-1, keepdim=True) + parameters
    return h_TBH, h_TBH[-1], c0_BH + parameters


def replay(
    products: Sequence[Product], device: torch.device | str, dtype: torch.dtype = torch.float32
) -> Callable[[], None]:
    """Return a function that computes all products once. Operands and results are allocated here.

    Args:
        products: from `record`.
        device: where they run.
        dtype: of operands and results.
    """
    prepared = []
    for product in products:
        left, right = (_like(each, device, dtype).normal_(std=0.01) for each in (product.left, product.right))
        out = torch.empty(*left.shape[:-1], right.shape[-1], device=device, dtype=dtype)
        prepared.append((left, right, out, product.count))

    def run() -> None:
        for left, right, out, count in prepared:
            for _ in range(count):
                torch.matmul(left, right, out=out)

    return run


def _like(tensor: Tensor, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), device=device, dtype=dtype)
