"""Operators of torch.library for kernels on the CPU.

`torch.library.custom_op` does the same, but it imports torch._dynamo at the first call, which takes two seconds of
every command that scores a text, and it searches the results for aliases of the arguments at every call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class Operator:
    """An operator that never changes its arguments nor returns them."""

    def __init__(self, name: str, schema: str, function: Callable[..., Any]) -> None:
        self.name = name
        # A kernel may rely on the strides that it was written for.
        torch.library.define(name, schema, tags=torch.Tag.needs_fixed_stride_order)
        torch.library.impl(name, "cpu", function)
        namespace, _, short = name.partition("::")
        self._overload = getattr(getattr(torch.ops, namespace), short).default

    def __call__(self, *arguments: Any) -> Any:
        return self._overload(*arguments)

    def register_fake(self, function: Callable[..., Any]) -> None:
        """Register the function that gives shapes and dtypes of the results."""
        torch.library.register_fake(self.name, function)

    def register_autograd(self, backward: Callable[..., Any], *, setup_context: Callable[..., Any]) -> None:
        """Register the gradient, as for an operator of `torch.library.custom_op`."""
        torch.library.register_autograd(self.name, backward, setup_context=setup_context)


def operator(name: str, schema: str | None = None) -> Callable[[Callable[..., Any]], Operator]:
    """Make a function an operator on the CPU.

    Args:
        name: `namespace::name`.
        schema: arguments and results, as `(Tensor x, float p) -> Tensor`; None for what the annotations say.
    """

    def wrap(function: Callable[..., Any]) -> Operator:
        return Operator(name, schema or torch.library.infer_schema(function, mutates_args=()), function)

    return wrap
