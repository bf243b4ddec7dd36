"""Every backend against its reference at the shared cases, and how a backend is chosen."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from kernel_support import needs_cuda, runs_here

import lm_kernels
from harness.timing.ops import disagreement, results
from lm_kernels import cases
from lm_kernels.fo_pool import unrolled

FO_POOL = [name for name in lm_kernels.KERNELS["fo_pool"] if runs_here("fo_pool", name)]
FAST_AT_CASES = [
    pytest.param(op, backend, case, id=f"{op}-{backend}-{case.name}")
    for op, backends in lm_kernels.KERNELS.items()
    for backend in backends
    if backend != "reference" and runs_here(op, backend)
    for case in cases.CASES[op]
    if not case.slow
]
DTYPES = list(cases.TOLERANCES)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("op", "backend", "case"), FAST_AT_CASES)
def test_equals_reference(op: str, backend: str, case: cases.Case, dtype: torch.dtype) -> None:
    given = cases.inputs(case, dtype)
    fast, plain = (lm_kernels.resolve(op, name)[1] for name in (backend, "reference"))
    assert disagreement(results(fast, given), results(plain, given)) is None


@pytest.mark.parametrize("op", [pytest.param(op, marks=needs_cuda) for op in lm_kernels.KERNELS])
def test_auto_on_cuda_equals_reference_on_cpu(op: str) -> None:
    """In float64. Warnings are errors, such as that of cuDNN about weights outside one buffer."""
    for case in cases.CASES[op]:
        if case.slow:
            continue
        expected = results(lm_kernels.resolve(op, "reference")[1], cases.inputs(case, torch.float64))
        actual = results(lm_kernels.resolve(op, "auto", "cuda")[1], cases.inputs(case, torch.float64, "cuda"))
        assert disagreement({name: value.cpu() for name, value in actual.items()}, expected) is None


@pytest.mark.parametrize("backend", list(lm_kernels.KERNELS["lstm"]))
def test_lstm_gradcheck(backend: str) -> None:
    given = cases.inputs(cases.LstmCase(3, 2, 2, 3), torch.float64)
    assert torch.autograd.gradcheck(lm_kernels.resolve("lstm", backend)[1], given.leaves)


def test_blocks_of_the_unrolled_backend_join_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unrolled, "_BLOCK_ELEMENTS", 2 * 3 * 7)
    given = cases.inputs(cases.FoPoolCase(9, 3, 7, keep=0.6), torch.float64)
    reference = lm_kernels.resolve("fo_pool", "reference")[1]
    assert disagreement(results(unrolled.fo_pool, given), results(reference, given)) is None


@pytest.mark.parametrize("backend", FO_POOL)
def test_fo_pool_extremes(backend: str) -> None:
    """Saturated gates give finite gradients; keep 0 leaves the cell unchanged."""
    function = lm_kernels.resolve("fo_pool", backend)[1]
    gates = torch.tensor([1e4, -1e4, 1e4] * 2).repeat(3, 1, 1).requires_grad_()
    h, c = function(gates, torch.ones(1, 2))
    h.sum().backward()
    assert h.isfinite().all()
    assert gates.grad is not None
    assert gates.grad.isfinite().all()
    c0 = torch.randn(2, 3)
    _, c = function(torch.randn(4, 2, 9), c0, torch.zeros(4, 2, 3))
    torch.testing.assert_close(c, c0, atol=0, rtol=0)


@pytest.mark.parametrize("backend", list(lm_kernels.KERNELS["lstm"]))
def test_an_lstm_of_no_time_steps_is_refused(backend: str) -> None:
    with pytest.raises(ValueError, match="at least one time step"):
        cases.inputs(cases.LstmCase(0, 1, 1, 1), torch.float32).call(lm_kernels.resolve("lstm", backend)[1])


def test_the_gradient_of_a_dropped_recurrent_weight_reaches_the_raw_one() -> None:
    given = cases.inputs(cases.LstmCase(5, 2, 3, 4), torch.float64)
    x, h0, c0, w_ih, w_hh, b_ih, b_hh = (leaf.detach() for leaf in given.leaves)
    mask = torch.empty_like(w_hh).bernoulli_(0.5, generator=torch.Generator().manual_seed(3)) * 2
    gradients = {}
    for name in lm_kernels.KERNELS["lstm"]:
        raw = w_hh.clone().requires_grad_()
        h, _, _ = lm_kernels.resolve("lstm", name)[1](x, h0, c0, w_ih, raw * mask, b_ih, b_hh)
        h.square().sum().backward()
        gradients[name] = raw.grad
        assert (raw.grad[mask == 0] == 0).all()
        assert (raw.grad[mask != 0] != 0).all()
    limit = cases.tolerance(torch.float64).allowed(gradients["reference"])
    for gradient in gradients.values():
        torch.testing.assert_close(gradient, gradients["reference"], atol=limit, rtol=0)


def test_resolve_lists_the_known_names() -> None:
    assert lm_kernels.resolve("fo_pool")[0] == FO_POOL[0]
    assert lm_kernels.resolve("lstm", "reference")[0] == "reference"
    known = "auto, native, padded, fused, reference"
    with pytest.raises(ValueError, match=f"lstm backend 'fuzed' is unknown; there are {known}"):
        lm_kernels.resolve("lstm", "fuzed")
    with pytest.raises(ValueError, match="kernel op 'gru' is unknown; there are fo_pool, lstm, weight_drop"):
        lm_kernels.resolve("gru")


def test_auto_skips_backends_that_cannot_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = types.ModuleType("broken_backend")
    broken.unavailable = lambda device: f"needs a compiler ({device})"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "broken_backend", broken)
    backends = {"broken": "broken_backend:lstm", **lm_kernels.KERNELS["lstm"]}
    monkeypatch.setitem(lm_kernels.KERNELS, "lstm", backends)
    assert lm_kernels.resolve("lstm")[0] == "fused"
    with pytest.raises(ValueError, match=r"no lstm backend can run on cpu \(broken: needs a compiler \(cpu\)\)"):
        lm_kernels.resolve("lstm", "broken")
