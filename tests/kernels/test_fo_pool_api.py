"""Every fo_pool backend beyond the shared cases: options, layouts, extremes, NaN, torch.compile and refusals."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_support import assert_close, backend, draw, pool
from torch import Tensor

import lm_kernels
from lm_kernels import cases
from lm_kernels.fo_pool.reference import fo_pool as reference

BACKENDS = list(lm_kernels.KERNELS["fo_pool"])
FAST = [name for name in BACKENDS if name != "reference"]

LAYOUTS = {
    "dense": lambda x: x,
    "transposed": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "chunked": lambda x: torch.cat([x, x], dim=-1).chunk(2, dim=-1)[1],
    "strided": lambda x: torch.stack([x, x], dim=-1)[..., 1],
    "of every second step": lambda x: torch.stack([x, x], dim=1).flatten(0, 1)[::2],
}


@pytest.mark.parametrize("name", FAST)
@settings(deadline=None, max_examples=6 if "TRITON_INTERPRET" in os.environ else 40)  # interpreted: 0.2 s each
@given(data=st.data())
def test_any_shape_layout_and_option_equals_the_reference(name: str, data: st.DataObject) -> None:
    function = backend("fo_pool", name)
    steps, streams = data.draw(st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9])), data.draw(st.integers(1, 5))
    hidden = data.draw(st.sampled_from([1, 3, 31, 32, 33, 64, 65, 1025]))
    output_gate, masked = data.draw(st.booleans()), data.draw(st.booleans())
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    layout = [data.draw(st.sampled_from(list(LAYOUTS))) for _ in range(2)]
    gates = LAYOUTS[layout[0]](draw(steps, streams, (2 + output_gate) * hidden, dtype=dtype))
    dh = LAYOUTS[layout[1]](draw(steps, streams, hidden, seed=1, dtype=dtype))
    if data.draw(st.booleans()):
        dh = torch.full((1, 1, 1), 0.3, dtype=dtype).expand(steps, streams, hidden)
    keep_shape = data.draw(
        st.sampled_from([None, (), (hidden,), (streams, 1), (1, 1, hidden), (steps, streams, hidden)])
    )
    keep = None if keep_shape is None else (draw(*keep_shape, seed=2, dtype=dtype) > 0).to(dtype)
    mask = (draw(streams, hidden, seed=3, dtype=dtype) > 0).to(dtype) / 0.5 if masked else None
    c0 = draw(1, hidden, seed=4, dtype=dtype).expand(streams, hidden)
    options = {"output_gate": output_gate, "out_mask_BH": mask}
    before = gates.clone()
    actual, expected = (pool(f, gates, c0, keep, dh, **options) for f in (function, reference))
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, atol=cases.TOLERANCES[dtype].allowed(b), rtol=0)
    assert torch.equal(gates, before)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("output_gate", [True, False])
def test_gradients_are_exact_where_gates_saturate(name: str, output_gate: bool) -> None:
    gates = 2 * draw(3, 2, 3 * (2 + output_gate))
    gates[0], gates[1, 0] = 30 * gates[0].sign(), -30
    mask = torch.tensor([[0.0, 2.0, 2.0], [2.0, 0.0, 2.0]], dtype=torch.float64)
    function = backend("fo_pool", name)

    def call(gates: Tensor, c0: Tensor) -> tuple[Tensor, Tensor]:
        return function(gates, c0, torch.tensor(0.8), output_gate=output_gate, out_mask_BH=mask)

    assert torch.autograd.gradcheck(call, (gates.requires_grad_(), draw(2, 3, seed=1).requires_grad_()))


@pytest.mark.parametrize("output_gate", [True, False])
def test_the_reference_is_differentiable_twice(output_gate: bool) -> None:
    inputs = (draw(3, 2, 2 * (2 + output_gate)).requires_grad_(), draw(2, 2, seed=1).requires_grad_())
    assert torch.autograd.gradgradcheck(lambda *x: reference(*x, output_gate=output_gate), inputs)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("value", [30.0, 88.5, 1e4, float("inf")])
def test_extreme_gates_give_what_the_reference_gives(name: str, value: float) -> None:
    signs = torch.cartesian_prod(*[torch.tensor([-value, value, 0.5])] * 3).T  # every combination of z, f and o
    gates = signs.reshape(1, 1, -1).repeat(2, 1, 1)
    c0 = torch.linspace(-1, 1, signs.shape[1]).view(1, -1)
    actual, expected = (list(f(gates, c0)) for f in (backend("fo_pool", name), reference))
    assert_close(actual, expected, 1e-6)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize(("gate", "steps"), [(0, slice(2, None)), (1, slice(2, None)), (2, slice(2, 3))])
def test_nan_poisons_only_what_depends_on_it(name: str, gate: int, steps: slice) -> None:
    hidden = 70
    gates = draw(5, 3, 3 * hidden, dtype=torch.float32)
    gates[2, 1, gate * hidden + 65] = float("nan")
    h, c = backend("fo_pool", name)(gates, draw(3, hidden, dtype=torch.float32))
    poisoned = torch.zeros(5, 3, hidden, dtype=torch.bool)
    poisoned[steps, 1, 65] = True
    assert torch.equal(h.isnan(), poisoned)
    assert c.isnan().any() == (gate != 2)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("gates_dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("c0_dtype", [torch.float32, torch.bfloat16])
def test_half_precision_is_widened_in_between(name: str, gates_dtype: torch.dtype, c0_dtype: torch.dtype) -> None:
    gates, c0 = draw(40, 2, 21).to(gates_dtype).requires_grad_(), draw(2, 7).to(c0_dtype)
    h, c = backend("fo_pool", name)(gates, c0)
    assert (h.dtype, c.dtype) == (gates_dtype, torch.promote_types(gates_dtype, c0_dtype))
    exact_h, exact_c = reference(gates.detach().double(), c0.double())
    for value, exact in ((h, exact_h), (c, exact_c)):
        wide = value.dtype == torch.float32
        torch.testing.assert_close(value, exact.to(value.dtype), atol=1e-6, rtol=1e-6 if wide else 1e-2)
    h.float().sum().backward()
    assert gates.grad is not None
    assert gates.grad.dtype == gates_dtype


@pytest.mark.parametrize("name", ["native", "triton"])
def test_compiles_as_one_graph_and_has_gradients_under_autocast(name: str) -> None:
    function = backend("fo_pool", name)
    x, weight = draw(4, 2, 5, dtype=torch.float32), draw(5, 9, dtype=torch.float32).requires_grad_()
    c0, mask = draw(2, 3, dtype=torch.float32), draw(2, 3, dtype=torch.float32)

    def loss(x: Tensor, weight: Tensor) -> Tensor:
        h, c = function(x @ weight, c0, torch.tensor(0.7), out_mask_BH=mask)
        return h.square().sum() + c.sum()

    (eager,) = torch.autograd.grad(loss(x, weight), weight)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (gradient,) = torch.autograd.grad(compiled(x, weight), weight)
    torch.testing.assert_close(gradient, eager)
    gradients = []
    for function in (backend("fo_pool", name), reference):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h, c = function(x @ weight, c0)
            assert (h.dtype, c.dtype) == (torch.bfloat16, torch.float32)
            gradients += torch.autograd.grad(loss(x, weight), weight)
    # The same products of 16 bits on both sides. One rounding to 16 bits of what flows back is 2^-8.
    torch.testing.assert_close(*gradients, atol=2e-2 * float(eager.abs().max()), rtol=0)
    torch.testing.assert_close(gradients[0], eager, atol=2e-2 * float(eager.abs().max()), rtol=0)


G, C = torch.zeros(4, 2, 9), torch.zeros(2, 3)
BAD = {
    "no steps": ((torch.zeros(0, 2, 9), C), {}, r"gates_TBG must hold at least one time step, got shape \(0, 2, 9\)"),
    "two dims": ((torch.zeros(4, 9), C), {}, r"gates_TBG must have shape \(T, B, 3 H\).*got \(4, 9\)"),
    "not thirds": ((torch.zeros(4, 2, 8), C), {}, r"gates_TBG must have shape \(T, B, 3 H\).*got \(4, 2, 8\)"),
    "not halves": ((G, C), {"output_gate": False}, r"\(T, B, 2 H\), the preactivations z and f, got \(4, 2, 9\)"),
    "integers": ((G.long(), C), {}, r"gates_TBG must be float16, bfloat16, float32 or float64, got torch\.int64"),
    "a list": ((G, [0.0]), {}, r"c0_BH must be a tensor, got list"),
    "cell": ((G, torch.zeros(3, 2)), {}, r"c0_BH must have shape \(B, H\) = \(2, 3\), got \(3, 2\)"),
    "keep": (
        (G, C, torch.zeros(5, 2, 3)),
        {},
        r"keep_TBH must broadcast to \(T, B, H\) = \(4, 2, 3\), got \(5, 2, 3\)",
    ),
    "keep dtype": ((G, C, torch.zeros(3, dtype=torch.complex64)), {}, r"keep_TBH must be real, got torch\.complex64"),
    "mask": ((G, C), {"out_mask_BH": torch.zeros(3)}, r"out_mask_BH must have shape \(B, H\) = \(2, 3\), got \(3,\)"),
    "device": ((G, C.to("meta")), {}, r"c0_BH must be on cpu like gates_TBG, got meta"),
}


@pytest.mark.parametrize("argument", list(BAD))
@pytest.mark.parametrize("name", BACKENDS)
def test_a_bad_argument_is_named(name: str, argument: str) -> None:
    arguments, options, message = BAD[argument]
    with pytest.raises(ValueError, match=f"^fo_pool: .*{message}"):
        backend("fo_pool", name)(*arguments, **options)
