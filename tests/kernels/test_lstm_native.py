"""The LSTM in C, in bfloat16 and float32: near float64, the same bits for any threads, and where `auto` takes it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_support import assert_equal, draw, on_threads
from torch import Tensor

import lm_kernels
from harness.timing.ops import results
from lm_kernels.cases import LSTM_CASES, LstmCase, inputs, tolerance
from lm_kernels.compiled import library
from lm_kernels.lstm import native, reference

needs_bfloat16 = pytest.mark.skipif(native.unavailable("cpu") is not None, reason=str(native.unavailable("cpu")))


DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


def assert_near_float64(case: LstmCase, dtype: torch.dtype) -> None:
    """Outputs and gradients differ from float64's by little more than one rounding to dtype; without gradients the
    outputs have the same bits."""
    drawn = inputs(case, dtype)
    exact, near = results(reference.lstm, drawn.widened()), results(native.lstm, drawn)
    for name, value in near.items():
        assert value.dtype == dtype
        error = (value.double() - exact[name]).abs().max().item()
        assert error <= tolerance(dtype).allowed(exact[name]), name
    with torch.no_grad():
        assert_equal(list(drawn.call(native.lstm)), [near[name] for name in drawn.output_names])


@needs_bfloat16
@DTYPES
@pytest.mark.parametrize("case", [case for case in LSTM_CASES if not case.slow], ids=lambda case: case.name)
def test_the_shared_cases_are_near_float64(case: LstmCase, dtype: torch.dtype) -> None:
    assert_near_float64(case, dtype)


@needs_bfloat16
@DTYPES
@settings(deadline=None, max_examples=20)
@given(
    steps=st.integers(1, 4),
    streams=st.one_of(st.integers(1, 14), st.sampled_from([64, 65, 131])),
    num_inputs=st.integers(1, 20),
    hidden=st.one_of(st.integers(1, 70), st.sampled_from([127, 129, 257, 300])),
)
def test_any_shape_is_near_float64(dtype: torch.dtype, steps: int, streams: int, num_inputs: int, hidden: int) -> None:
    if dtype == torch.bfloat16:
        num_inputs += 2  # with one or two, every gradient of x may be small compared to the rounded terms of its sum
    assert_near_float64(LstmCase(steps, streams, num_inputs, hidden), dtype)


@needs_bfloat16
@pytest.mark.parametrize("with_gradient", range(7))
def test_in_float32_any_argument_alone_has_a_gradient(with_gradient: int) -> None:
    """Also through the state at both ends, as a finite difference of the reference in float64 gives it."""
    drawn = [leaf.detach() for leaf in inputs(LstmCase(3, 2, 4, 5), torch.float32).leaves]
    weights = [draw(*shape, seed=seed) for seed, shape in enumerate([(3, 2, 5), (2, 5), (2, 5)])]

    def loss(function: Any, arguments: list[Tensor]) -> Tensor:
        return sum((part * weight.to(part)).sum() for part, weight in zip(function(*arguments), weights, strict=True))

    drawn[with_gradient].requires_grad_()
    (gradient,) = torch.autograd.grad(loss(native.lstm, drawn), drawn[with_gradient])
    wide = [part.detach().double() for part in drawn]
    direction = draw(*wide[with_gradient].shape, seed=9)
    ends = []
    for sign in (1, -1):
        moved = list(wide)
        moved[with_gradient] = wide[with_gradient] + sign * 1e-5 * direction
        ends.append(loss(reference.lstm, moved))
    slope = ((ends[0] - ends[1]) / 2e-5).item()
    assert (gradient * direction).sum().item() == pytest.approx(slope, rel=1e-4, abs=1e-5)


@needs_bfloat16
@DTYPES
def test_a_second_derivative_is_refused(dtype: torch.dtype) -> None:
    drawn = inputs(LstmCase(2, 2, 3, 4), dtype)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(drawn.call(native.lstm)[0].sum(), drawn.leaves, create_graph=True)


def carried(parts: list[Tensor], arguments: tuple[Tensor, ...]) -> list[Tensor]:
    """h of all windows and the last state, under autocast."""
    h, c, *weights = arguments
    outputs = []
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for part in parts:
            out, h, c = native.lstm(part, h, c, *weights)
            outputs.append(out)
    return [torch.cat(outputs), h, c]


@needs_bfloat16
def test_under_autocast_the_state_is_float32_and_windows_do_not_change_it() -> None:
    x, *arguments = (leaf.detach() for leaf in inputs(LstmCase(11, 5, 9, 37), torch.float32).leaves)
    whole = carried([x], tuple(arguments))
    assert [part.dtype for part in whole] == [torch.bfloat16, torch.float32, torch.float32]
    assert torch.equal(whole[0][-1].float(), whole[1])
    assert not torch.equal(whole[2], whole[2].bfloat16().float()), "the cell is not rounded between windows"
    assert_equal(carried([x[:4], x[4:5], x[5:]], tuple(arguments)), whole)


@needs_bfloat16
@DTYPES
@pytest.mark.parametrize("team", ["torch", "own"])
def test_threads_do_not_change_the_bits(team: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Backward, 150 units are three tiles on one thread and four on two."""
    monkeypatch.setattr(native, "_MIN_PRODUCTS_PER_THREAD", {dtype: 1})
    drawn = inputs(LstmCase(6, 67, 32, 150), dtype)
    first, *others = on_threads(lambda: list(results(native.lstm, drawn).values()), monkeypatch, team)
    for other in others:
        assert_equal(first, other)


@needs_bfloat16
@DTYPES
@pytest.mark.parametrize("case", [LstmCase(1, 1, 1, 1), LstmCase(6, 5, 7, 37)], ids=lambda case: case.name)
def test_symbols_have_the_bits_of_one_hot_inputs(dtype: torch.dtype, case: LstmCase) -> None:
    """Their gradients are sums of the same values in float32 in either case, in another order."""
    _, *others = (leaf.detach() for leaf in inputs(case, dtype).leaves)
    symbols = torch.randint(case.inputs, (case.steps, case.streams), generator=torch.Generator().manual_seed(5))
    outputs, gradients = [], []
    for x in (symbols, torch.nn.functional.one_hot(symbols, case.inputs).to(dtype)):
        leaves = [leaf.clone().requires_grad_() for leaf in others]
        outputs.append(list(native.lstm(x, *leaves)))
        gradients.append(torch.autograd.grad(sum(part.square().sum() for part in outputs[-1]), leaves))
    assert_equal(*outputs)
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=torch.finfo(dtype).eps, atol=1e-6)


@needs_bfloat16
@pytest.mark.parametrize("symbol", [-1, 4])
def test_symbols_outside_the_input_weight_are_refused(symbol: int) -> None:
    _, *others = (leaf.detach() for leaf in inputs(LstmCase(2, 1, 4, 3), torch.bfloat16).leaves)
    with pytest.raises(IndexError, match=r"symbols in 0\.\.3"):
        native.lstm(torch.tensor([[0], [symbol]]), *others)


@pytest.mark.parametrize("name", ["fused", "padded", "native"])
def test_every_backend_reads_symbols(name: str) -> None:
    _, *others = (leaf.detach().double() for leaf in inputs(LstmCase(3, 2, 4, 5), torch.float32).leaves)
    symbols = torch.tensor([[0, 3], [1, 1], [2, 0]])
    if native.unavailable("cpu") is not None and name == "native":
        pytest.skip(str(native.unavailable("cpu")))
    found = lm_kernels.resolve("lstm", name)[1](symbols, *others)
    for ours, theirs in zip(found, reference.lstm(torch.eye(4).double()[symbols], *others), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@needs_bfloat16
@DTYPES
def test_strides_do_not_change_the_bits(dtype: torch.dtype) -> None:
    x, h0, c0, w_ih, w_hh, b_ih, b_hh = (leaf.detach() for leaf in inputs(LstmCase(3, 4, 5, 6), dtype).leaves)
    h0, c0 = h0[:1].expand(4, 6), c0[:1].expand(4, 6)
    plain = (x, h0.contiguous(), c0.contiguous(), w_ih, w_hh, b_ih, b_hh)
    strided = (
        x.transpose(0, 1).contiguous().transpose(0, 1), h0, c0, w_ih.t().contiguous().t(), w_hh.t().contiguous().t(),
        torch.stack([b_ih, b_ih], dim=1)[:, 0], b_hh,
    )  # fmt: skip
    assert [part.is_contiguous() for part in strided] == [False] * 6 + [True]
    outputs = []
    for arguments in (plain, strided):
        leaves = [part.detach().requires_grad_() for part in arguments]
        h, last, c = native.lstm(*leaves)
        # A gradient with strides of 0, as that of a sum
        outputs.append([h, last, c, *torch.autograd.grad(h.sum() + c.sum(), leaves)])
    assert_equal(*outputs)


@needs_bfloat16
@DTYPES
def test_nan_poisons_only_what_depends_on_it(dtype: torch.dtype) -> None:
    drawn = inputs(LstmCase(5, 9, 4, 19), dtype)
    x, *others = drawn.leaves
    poisoned = x.detach().clone()
    poisoned[2, 3] = float("nan")
    h, _, c = native.lstm(poisoned, *others)
    expected = torch.zeros(5, 9, 19, dtype=torch.bool)
    expected[2:, 3] = True
    assert torch.equal(h.isnan(), expected)
    assert torch.equal(c.isnan(), expected[-1])
    h, _, _ = native.lstm(*drawn.leaves)
    dh = torch.ones_like(h)
    dh[2, 3] = float("nan")
    (dx,) = torch.autograd.grad(h, x, dh)
    expected = torch.zeros(5, 9, 4, dtype=torch.bool)
    expected[:3, 3] = True
    assert torch.equal(dx.isnan(), expected)


@needs_bfloat16
@DTYPES
def test_saturated_gates_have_finite_gradients(dtype: torch.dtype) -> None:
    """Also at infinite preactivations, whose gates are exactly 0, 1 or -1."""
    x = torch.tensor([[[1e38], [-1e38]]]).to(dtype).requires_grad_()
    weight = torch.tensor([[1.0], [1.0], [1.0], [1.0]]).to(dtype).requires_grad_()
    zero_B1, zero_G = torch.zeros(2, 1).to(dtype), torch.zeros(4).to(dtype)
    for bias_G in (zero_G, torch.tensor([1.0, 1, 1, 1]).mul(float("inf")).to(dtype)):
        h, _, c = native.lstm(x, zero_B1, zero_B1, weight, weight, bias_G, zero_G)
        h.sum().backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()
        assert c[0].item() == pytest.approx(1)
    assert h.flatten().tolist() == pytest.approx([0.76, 0.76], abs=0.01)


@needs_bfloat16
@settings(deadline=None, max_examples=20)
@given(exponent=st.integers(-30, 1), seed=st.integers(0, 99))
def test_in_float32_small_gates_keep_their_relative_accuracy(exponent: int, seed: int) -> None:
    x, h0, c0, w_ih, w_hh = (torch.zeros(shape) for shape in ((1, 1, 1), (1, 40), (1, 40), (160, 1), (160, 40)))
    bias_G = 10.0**exponent * draw(160, seed=seed, dtype=torch.float32)
    arguments = x, h0, c0, w_ih, w_hh, bias_G, torch.zeros(160)
    exact = reference.lstm(*(part.double() for part in arguments))
    for ours, theirs in zip(native.lstm(*arguments), exact, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-6, atol=1e-36)


@needs_bfloat16
@DTYPES
def test_no_steps_are_refused_and_no_streams_are_not(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match="at least one time step"):
        inputs(LstmCase(0, 1, 1, 1), dtype).call(native.lstm)
    h, _, _ = inputs(LstmCase(2, 0, 3, 4), dtype).call(native.lstm)
    h.sum().backward()
    assert h.shape == (2, 0, 4)


@needs_bfloat16
@DTYPES
def test_the_operators_pass_opcheck(dtype: torch.dtype) -> None:
    shapes = (3, 2, 4), (2, 5), (2, 5), (20, 4), (20, 5)
    x, h0, c0, w_ih, w_hh = (draw(*shape, dtype=torch.float32) for shape in shapes)
    leaves = (x.to(dtype), h0, c0, w_ih.to(dtype), w_hh, draw(20, dtype=torch.float32))
    arguments = tuple(leaf.requires_grad_() for leaf in leaves)
    torch.library.opcheck(torch.ops.lstm.native.default, arguments)
    h, c, gates, cells = (part.detach() for part in torch.ops.lstm.native(*arguments))
    saved = (gates, cells, c0.detach(), w_hh.detach(), dtype)
    torch.library.opcheck(torch.ops.lstm.native_backward.default, (h, None, *saved))
    _, _, dc0, _ = torch.ops.lstm.native_backward(None, c, *saved)
    assert dc0.shape == c0.shape


def chosen(x: Tensor, hidden: int = 4) -> str:
    arguments = (x, torch.zeros(3, hidden, dtype=x.dtype))
    return lm_kernels.resolve("lstm", "auto", "cpu", arguments)[0]


@needs_bfloat16
def test_auto_takes_it_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    wide = torch.zeros(2, 3, 4)
    assert (chosen(wide), chosen(wide.bfloat16()), chosen(wide.half())) == ("fused", "native", "fused")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (chosen(wide), chosen(wide.double())) == ("native", "fused")
    with torch.autocast("cpu", dtype=torch.float16):
        assert chosen(wide) == "fused"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert chosen(wide.bfloat16()) == "fused"


def test_a_cpu_without_the_instructions_takes_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "has_bfloat16", lambda: False)
    monkeypatch.setattr(library, "unavailable", lambda device: None)
    x = torch.zeros(2, 3, 4).bfloat16()
    assert lm_kernels.resolve("lstm", "auto", "cpu", (x, x[0]))[0] == "fused"
    with pytest.raises(ValueError, match="native: it needs a CPU with AVX512-BF16"):
        lm_kernels.resolve("lstm", "native")


@needs_bfloat16
def test_other_dtypes_are_those_of_the_library_call() -> None:
    drawn = inputs(LstmCase(3, 2, 4, 5), torch.float64)
    assert_equal(*(list(drawn.call(lm_kernels.resolve("lstm", name)[1])) for name in ("native", "fused")))


@needs_bfloat16
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("place", range(1, 7))
def test_in_float32_arguments_of_another_dtype_are_not_read_as_float32(
    place: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaves = [leaf.detach() for leaf in inputs(LstmCase(16, 3, 4, 19), torch.float32).leaves]
    leaves[place] = leaves[place].to(dtype)
    monkeypatch.setattr(native, "_compute", lambda *_, **__: pytest.fail("C reads it as float32"))
    monkeypatch.setattr(native.fused, "lstm", lambda *_: "fused")
    assert not native.worth(*leaves)
    assert native.lstm(*leaves) == "fused"


@needs_bfloat16
@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("place", "name"), [(1, "h0"), (2, "c0"), (3, "weight_ih"), (4, "weight_hh"), (5, "bias_ih"), (6, "bias_hh")]
)
def test_shapes_that_do_not_fit_are_refused(place: int, name: str, dtype: torch.dtype) -> None:
    leaves = [leaf.detach().to(dtype) for leaf in inputs(LstmCase(16, 3, 4, 19), torch.float32).leaves]
    leaves[place] = leaves[place][:-1]
    with pytest.raises(ValueError, match=f"lstm needs {name} of shape"):
        native.lstm(*leaves)


@needs_bfloat16
def test_symbols_of_more_dimensions_are_refused() -> None:
    leaves = [leaf.detach() for leaf in inputs(LstmCase(16, 3, 4, 19), torch.float32).leaves]
    for shape in ((16, 3, 0), (16, 3, 1)):
        with pytest.raises(ValueError, match="lstm needs symbols of shape"):
            native.lstm(torch.zeros(shape, dtype=torch.int64), *leaves[1:])


@needs_bfloat16
@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_gradients_do_not_depend_on_the_default_dtype(default: torch.dtype) -> None:
    def gradients() -> list[torch.Tensor]:
        drawn = inputs(LstmCase(16, 3, 4, 19), torch.float32)
        return list(torch.autograd.grad(native.lstm(*drawn.leaves)[0].sum(), drawn.leaves))

    expected = gradients()
    torch.set_default_dtype(default)
    try:
        found = gradients()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(*pair) for pair in zip(expected, found, strict=True))


@needs_bfloat16
def test_auto_takes_it_in_float32_for_wide_layers_and_for_windows_without_gradients() -> None:
    window = torch.zeros(16, 3, 4)
    assert (chosen(window, 63), chosen(window, 64), chosen(window[:1], 64)) == ("fused", "native", "native")
    assert chosen(window.double(), 64) == "fused"
    with torch.no_grad():
        assert (chosen(window, 1), chosen(window[1:], 255), chosen(window[1:], 256)) == ("native", "fused", "native")
        assert chosen(window.double(), 256) == "fused"
        with torch.autocast("cpu", dtype=torch.float16):
            assert chosen(window, 256) == "fused"
