"""The Triton backend on a CUDA device: equal to the reference, repeatable, and past 32-bit counts."""

from __future__ import annotations

import pytest
import torch
from kernel_support import needs_cuda, pool

import lm_kernels
from lm_kernels import cases
from lm_kernels.fo_pool import triton as backend
from lm_kernels.fo_pool.reference import fo_pool as reference

pytestmark = needs_cuda


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "case",
    [*(case for case in cases.FO_POOL_CASES if not case.slow), cases.FoPoolCase(2000, 1, 96, keep=0.9)],
    ids=str,
)
@pytest.mark.parametrize("output_gate", [True, False])
def test_on_device_equals_the_reference(case: cases.FoPoolCase, dtype: torch.dtype, output_gate: bool) -> None:
    """Against float64 on the CPU with the same stored values. The last case is long enough to be chunked."""
    draw = torch.Generator().manual_seed(1)
    shape = (case.steps, case.streams, case.hidden)
    gates = torch.randn(*shape[:2], (2 + output_gate) * case.hidden, generator=draw).to(dtype)
    c0, mask = (torch.randn(shape[1:], generator=draw).to(dtype) for _ in range(2))
    keep = None if case.keep == 1 else torch.empty(shape).bernoulli_(case.keep, generator=draw)
    expected = pool(reference, gates.double(), c0.double(), keep, output_gate=output_gate, out_mask_BH=mask.double())
    on_cuda = None if keep is None else keep.cuda()
    actual = pool(backend.fo_pool, gates.cuda(), c0.cuda(), on_cuda, output_gate=output_gate, out_mask_BH=mask.cuda())
    precision = max(torch.finfo(dtype).eps, 3e-7) if dtype != torch.float64 else 1e-14
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == dtype
        limit = 16 * precision * (1 + b.abs().max().item())
        torch.testing.assert_close(a.cpu().double(), b, atol=limit, rtol=0)


def test_on_device_the_same_bits_twice_and_compiled() -> None:
    name, function = lm_kernels.resolve("fo_pool", "auto", "cuda")
    assert name == "triton"
    gates, c0 = torch.randn(150, 16, 3 * 130, device="cuda"), torch.randn(16, 130, device="cuda")
    first, second = (pool(function, gates, c0) for _ in range(2))
    compiled = pool(torch.compile(function, fullgraph=True), gates, c0)
    for a, b, c in zip(first, second, compiled, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_on_device_more_elements_than_32_bits_count() -> None:
    steps, hidden = 3, (1 << 30) // 3 + 64
    if torch.cuda.mem_get_info()[0] < 60 << 30:
        pytest.skip("needs 60 GB of free device memory")
    gates = torch.zeros(steps, 1, 3 * hidden, device="cuda", requires_grad=True)
    c0 = torch.zeros(1, hidden, device="cuda")
    with torch.no_grad():
        for last in (hidden, 2 * hidden, 3 * hidden):
            gates[:, :, last - 1] = 1.0
    assert gates.numel() > 1 << 31
    h, c = backend.fo_pool(gates, c0)
    (gradient,) = torch.autograd.grad(h[-1, 0, -1], gates)
    column = [slice(None), slice(None), [hidden - 1, 2 * hidden - 1, 3 * hidden - 1]]
    small = gates.detach()[tuple(column)].cpu().double().requires_grad_()
    expected, _ = reference(small, torch.zeros(1, 1, dtype=torch.float64))
    (expected_gradient,) = torch.autograd.grad(expected[-1, 0, -1], small)
    torch.testing.assert_close(h[:, 0, -1].cpu().double(), expected[:, 0, 0], atol=1e-6, rtol=0)
    torch.testing.assert_close(gradient[tuple(column)].cpu().double(), expected_gradient, atol=1e-6, rtol=0)
    assert c[0, :-1].abs().max() == 0
