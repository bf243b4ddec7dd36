"""Every backend against its plain reference, over the shared case list, odd shapes and strange layouts."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import kernels
from harness.timing.ops import disagreement, results
from kernels import cases


def runs_here(op: str, name: str) -> bool:
    try:
        return kernels.resolve(op, name)[0] == name
    except ValueError:
        return False


FO_POOL = [name for name in kernels.KERNELS["fo_pool"] if runs_here("fo_pool", name)]
FO_POOL_FAST = [name for name in FO_POOL if name != "reference"]
LSTM_FAST = [name for name in kernels.KERNELS["lstm"] if name != "reference"]
FAST_AT_CASES = [
    pytest.param(op, backend, case, id=f"{op}-{backend}-{case.name}")
    for op, backends in kernels.KERNELS.items()
    for backend in backends
    if backend != "reference" and runs_here(op, backend)
    for case in cases.CASES[op]
    if not case.slow
]
DTYPES = list(cases.TOLERANCES)


def assert_close(got: list[Tensor], want: list[Tensor]) -> None:
    tolerance = cases.TOLERANCES[want[0].dtype]
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance.allowed(b), rtol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("op", "backend", "case"), FAST_AT_CASES)
def test_equals_reference(op: str, backend: str, case: cases.Case, dtype: torch.dtype) -> None:
    given = cases.inputs(case, dtype)
    fast, plain = (kernels.resolve(op, name)[1] for name in (backend, "reference"))
    assert disagreement(results(fast, given), results(plain, given)) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("op", list(kernels.KERNELS))
def test_auto_on_cuda_equals_reference_on_cpu(op: str) -> None:
    """In float64; a warning, such as cuDNN's about scattered weights, is an error here."""
    for case in cases.CASES[op]:
        if case.slow:
            continue
        wanted = results(kernels.resolve(op, "reference")[1], cases.inputs(case, torch.float64))
        found = results(kernels.resolve(op, "auto", "cuda")[1], cases.inputs(case, torch.float64, "cuda"))
        assert disagreement({name: value.cpu() for name, value in found.items()}, wanted) is None


@pytest.mark.parametrize("backend", FO_POOL_FAST)
@settings(deadline=None, max_examples=25)
@given(
    case=st.builds(
        cases.FoPoolCase,
        steps=st.integers(1, 9),
        streams=st.integers(1, 5),
        hidden=st.integers(1, 9),
        keep=st.sampled_from([1.0, 0.5]),
    )
)
def test_fo_pool_odd_shapes(backend: str, case: cases.FoPoolCase) -> None:
    given = cases.inputs(case, torch.float64)
    fast, plain = (kernels.resolve("fo_pool", name)[1] for name in (backend, "reference"))
    assert disagreement(results(fast, given), results(plain, given)) is None


@pytest.mark.parametrize("backend", FO_POOL)
@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_fo_pool_gradcheck(backend: str, keep: float) -> None:
    given = cases.inputs(cases.FoPoolCase(4, 2, 3, keep=keep), torch.float64)
    assert torch.autograd.gradcheck(kernels.resolve("fo_pool", backend)[1], (*given.leaves, *given.constants))


@pytest.mark.parametrize("backend", list(kernels.KERNELS["lstm"]))
def test_lstm_gradcheck(backend: str) -> None:
    given = cases.inputs(cases.LstmCase(3, 2, 2, 3), torch.float64)
    assert torch.autograd.gradcheck(kernels.resolve("lstm", backend)[1], given.leaves)


@pytest.mark.parametrize("backend", FO_POOL_FAST)
def test_fo_pool_blocks_meet_without_a_seam(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[kernels.resolve("fo_pool", backend)[1].__module__]
    if not hasattr(module, "_BLOCK_ELEMENTS"):
        pytest.skip(f"{backend} does not cut time into blocks")
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", 2 * 3 * 7)
    given = cases.inputs(cases.FoPoolCase(9, 3, 7, keep=0.6), torch.float64)
    plain = kernels.resolve("fo_pool", "reference")[1]
    assert disagreement(results(module.fo_pool, given), results(plain, given)) is None


@pytest.mark.parametrize("backend", FO_POOL_FAST)
def test_fo_pool_reads_any_layout_and_leaves_its_inputs_alone(backend: str) -> None:
    """A transposed gates tensor and an expanded gradient are not contiguous; neither may be misread or written."""
    gates, c0 = (leaf.detach() for leaf in cases.inputs(cases.FoPoolCase(6, 3, 5), torch.float64).leaves)
    fast, plain = (kernels.resolve("fo_pool", name)[1] for name in (backend, "reference"))
    gradients = []
    for function in (fast, plain):
        leaf = gates.transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
        before = leaf.detach().clone()
        h, _ = function(leaf, c0)
        h.backward(torch.full((1, 1, 1), 0.3, dtype=torch.float64).expand_as(h))
        assert torch.equal(leaf.detach(), before)
        gradients.append(leaf.grad)
    assert_close([gradients[0]], [gradients[1]])


@pytest.mark.parametrize("backend", FO_POOL)
def test_fo_pool_extremes(backend: str) -> None:
    """Saturated gates stay finite; keep 0 leaves the cell as it was."""
    function = kernels.resolve("fo_pool", backend)[1]
    gates = torch.tensor([1e4, -1e4, 1e4] * 2).repeat(3, 1, 1).requires_grad_()
    h, c = function(gates, torch.ones(1, 2))
    h.sum().backward()
    assert h.isfinite().all()
    assert gates.grad is not None
    assert gates.grad.isfinite().all()
    c0 = torch.randn(2, 3)
    _, c = function(torch.randn(4, 2, 9), c0, torch.zeros(4, 2, 3))
    torch.testing.assert_close(c, c0, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("op", "case"), [("fo_pool", cases.FoPoolCase(0, 2, 3)), ("lstm", cases.LstmCase(0, 1, 1, 1))], ids=str
)
def test_no_time_steps_is_refused(op: str, case: cases.Case) -> None:
    for backend in filter(lambda name: runs_here(op, name), kernels.KERNELS[op]):
        with pytest.raises(ValueError, match="at least one time step"):
            cases.inputs(case, torch.float32).call(kernels.resolve(op, backend)[1])


def test_dropped_recurrent_weight_reaches_the_raw_one() -> None:
    given = cases.inputs(cases.LstmCase(5, 2, 3, 4), torch.float64)
    x, h0, c0, w_ih, w_hh, b_ih, b_hh = (leaf.detach() for leaf in given.leaves)
    mask = torch.empty_like(w_hh).bernoulli_(0.5, generator=torch.Generator().manual_seed(3)) * 2
    gradients = {}
    for name in kernels.KERNELS["lstm"]:
        raw = w_hh.clone().requires_grad_()
        h, _, _ = kernels.resolve("lstm", name)[1](x, h0, c0, w_ih, raw * mask, b_ih, b_hh)
        h.square().sum().backward()
        gradients[name] = raw.grad
        assert (raw.grad[mask == 0] == 0).all()
        assert (raw.grad[mask != 0] != 0).all()
    for name in LSTM_FAST:
        assert_close([gradients[name]], [gradients["reference"]])


def test_resolve_names_what_there_is() -> None:
    assert kernels.resolve("fo_pool")[0] == FO_POOL[0]
    assert kernels.resolve("lstm", "reference")[0] == "reference"
    with pytest.raises(ValueError, match=r"lstm backend 'fuzed' is unknown; there are auto, padded, fused, reference"):
        kernels.resolve("lstm", "fuzed")
    with pytest.raises(ValueError, match="kernel op 'gru' is unknown; there are fo_pool, lstm, weight_drop"):
        kernels.resolve("gru")


def test_auto_passes_over_what_cannot_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = types.ModuleType("broken_backend")
    broken.unavailable = lambda device: f"needs a compiler ({device})"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "broken_backend", broken)
    backends = {"broken": "broken_backend:lstm", **kernels.KERNELS["lstm"]}
    monkeypatch.setitem(kernels.KERNELS, "lstm", backends)
    assert kernels.resolve("lstm")[0] == "fused"
    with pytest.raises(ValueError, match=r"no lstm backend can run on cpu \(broken: needs a compiler \(cpu\)\)"):
        kernels.resolve("lstm", "broken")
