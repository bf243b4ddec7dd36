"""The Triton backend in triton's interpreter, on the CPU.

Not collected directly: `test_interpreted.py` runs this file in a child process with TRITON_INTERPRET=1.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kernel_support import assert_close, draw, pool
from torch import Tensor

from lm_kernels.fo_pool import triton as backend
from lm_kernels.fo_pool import triton_ops
from lm_kernels.fo_pool.reference import fo_pool as reference


def chunked(steps: int, output_gate: bool = True, keep: Tensor | None = None, mask: Tensor | None = None) -> Any:
    """The backend with a given number of steps per chunk."""

    def call(gates: Tensor, c0: Tensor) -> tuple[Tensor, Tensor]:
        h, _, c = triton_ops.forward(gates, c0, keep, mask, output_gate, True, steps)
        return h, c

    return call


def test_it_is_interpreted_here() -> None:
    assert triton_ops.interpreted()
    assert backend.unavailable("cpu") is None


@pytest.mark.parametrize(("steps", "masked", "output_gate"), [(1, False, True), (2, True, True), (2, False, False)])
def test_chunked_scan_equals_the_sequential_one(steps: int, masked: bool, output_gate: bool) -> None:
    """Nine chunks, the last one short: more than one group of the scan over chunks."""
    num_steps, streams, hidden = 9 * steps - steps // 2, 2, 5
    gates = draw(num_steps, streams, (2 + output_gate) * hidden)
    keep = (draw(num_steps, streams, hidden, seed=1) > -0.5).double() if masked else None
    mask = draw(streams, hidden, seed=2) if masked else None
    c0, dh = draw(streams, hidden, seed=3), draw(num_steps, streams, hidden, seed=4)
    sequential, parts = (chunked(size, output_gate, keep, mask) for size in (num_steps, steps))
    assert_close(pool(parts, gates, c0, dh=dh), pool(sequential, gates, c0, dh=dh))


def test_the_rule_chooses_the_scan_in_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, launched = [], []
    launch = triton_ops._launch

    def rule(*sizes: int) -> int:
        calls.append(sizes)
        return 5

    def watch(kernel: Any, grid: tuple[int, int], *arguments: Any, **meta: Any) -> None:
        launched.append(grid)
        launch(kernel, grid, *arguments, **meta)

    monkeypatch.setattr(triton_ops, "steps_per_chunk", rule)
    monkeypatch.setattr(triton_ops, "_launch", watch)
    gates, c0, dh = (draw(*shape, dtype=torch.float32) for shape in ((12, 1, 6), (1, 2), (12, 1, 2)))
    actual = pool(backend.fo_pool, gates, c0, dh=dh)
    assert calls == 2 * [(12, 2, 1)]
    assert launched == 2 * [(1, 3), (1, 1), (1, 3)]
    assert_close(actual, pool(reference, gates, c0, dh=dh), 1e-5)


@pytest.mark.parametrize("steps", [12, 4])
@pytest.mark.parametrize(("gate", "poisoned"), [(0, slice(6, None)), (1, slice(6, None)), (2, slice(6, 7))])
def test_nan_crosses_chunks_as_it_crosses_steps(gate: int, poisoned: slice, steps: int) -> None:
    gates = draw(12, 2, 9, dtype=torch.float32)
    gates[6, 1, 3 * gate + 1] = float("nan")
    h, _ = chunked(steps)(gates, draw(2, 3, dtype=torch.float32))
    expected = torch.zeros(12, 2, 3, dtype=torch.bool)
    expected[poisoned, 1, 1] = True
    assert torch.equal(h.isnan(), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_only_what_it_stores(dtype: torch.dtype) -> None:
    """Twenty steps in half precision differ from float64 by the last places of the stored values.

    The interpreter truncates float32 to bfloat16, where the compiler rounds: an error of one last place, not half.
    """
    gates, c0 = draw(20, 2, 21).to(dtype), draw(2, 7).to(dtype)
    dh = draw(20, 2, 7, seed=1).to(dtype)
    actual = pool(backend.fo_pool, gates, c0, dh=dh)
    expected = pool(reference, gates.double(), c0.double(), dh=dh.double())
    for a, b, places in zip(actual, expected, (1, 1, 4, 4), strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a.double(), b, atol=places * torch.finfo(dtype).eps * b.abs().max().item(), rtol=0)


def test_boolean_keep_and_missing_gradients() -> None:
    gates, c0, keep = draw(6, 2, 9), draw(2, 3), draw(6, 2, 3) > 0
    h, c = backend.fo_pool(gates, c0, keep)
    torch.testing.assert_close(h, reference(gates, c0, keep.double())[0], atol=1e-13, rtol=1e-13)
    for output in (0, 1):
        gradients = []
        for function in (backend.fo_pool, reference):
            leaf = gates.clone().requires_grad_()
            function(leaf, c0)[output].sum().backward()
            gradients.append(leaf.grad)
        torch.testing.assert_close(*gradients, atol=1e-13, rtol=1e-13)
    assert not h.requires_grad
    assert not c.requires_grad


def test_empty_columns_need_no_kernel() -> None:
    gates = torch.zeros(3, 0, 6, requires_grad=True)
    h, c = backend.fo_pool(gates, torch.zeros(0, 2))
    (h.sum() + c.sum()).backward()
    assert (h.shape, c.shape) == ((3, 0, 2), (0, 2))


def test_gates_are_within_the_documented_error() -> None:
    x = torch.cat([torch.linspace(-110, 110, 4001), 3 * draw(3000, dtype=torch.float32), torch.tensor([0.0, -0.0])])
    shut, opened = torch.full_like(x, -1e4), torch.full_like(x, 1e4)
    one = torch.ones(1, len(x))
    sigmoid, _ = backend.fo_pool(torch.cat([x, shut, x]).view(1, 1, -1), one)  # the cell stays 1
    tanh, _ = backend.fo_pool(torch.cat([x, opened, opened]).view(1, 1, -1), one)  # the cell is z
    assert (sigmoid[0, 0].double() - x.double().sigmoid()).abs().max() <= 4e-7
    assert (tanh[0, 0].double() - x.double().tanh()).abs().max() <= 5e-7
    assert tanh[0, 0, -1] == 0
    assert sigmoid[0, 0, -1] == 0.5


def test_opcheck() -> None:
    operator = torch.ops.fo_pool.triton.default
    gates, c0 = draw(4, 2, 9).requires_grad_(), draw(2, 3).requires_grad_()
    torch.library.opcheck(operator, (gates, c0, None, None, True, True, 0))
    quick = ("test_schema", "test_autograd_registration", "test_faketensor")
    keep, mask = draw(4, 2, 3), draw(2, 3)
    torch.library.opcheck(operator, (gates, c0, keep, mask, True, False, 2), test_utils=quick)
    pooled = draw(4, 2, 6).requires_grad_()
    torch.library.opcheck(operator, (pooled, c0, None, None, False, True, 0), test_utils=quick)
    torch.library.opcheck(
        torch.ops.fo_pool.triton_backward.default,
        (draw(4, 2, 3), draw(2, 3), draw(4, 2, 9), draw(2, 3), draw(4, 2, 3), keep, mask, True, 2),
        test_utils=("test_schema", "test_faketensor"),
    )


def test_no_gradient_without_saved_cells() -> None:
    gates, c0 = draw(2, 1, 6).requires_grad_(), draw(1, 2)
    h, _, _ = triton_ops.forward(gates, c0, None, None, True, False, 0)
    with pytest.raises(RuntimeError, match="without save_cells and has no gradient"):
        h.sum().backward()
