"""The list of cases for tests and benchmarks, and the chain that benchmarks compare with."""

from __future__ import annotations

import pytest
import torch

import lm_kernels
from harness.timing.ops import disagreement, results
from lm_kernels import cases
from lm_kernels.cases import CASES, FoPoolCase, LstmCase
from lm_kernels.fo_pool import chain, reference


def test_cases_are_named_by_their_shape_and_unique() -> None:
    assert FoPoolCase(150, 128, 1024).name == "T150-B128-H1024"
    assert FoPoolCase(5, 3, 7, keep=0.6).name == "T5-B3-H7-K0.6"
    assert LstmCase(150, 128, 1000, 1000).name == "T150-B128-H1000"
    assert LstmCase(33, 4, 64, 32).name == "T33-B4-I64-H32"
    for listed in CASES.values():
        names = [case.name for case in listed]
        assert len(set(names)) == len(names)


def test_the_papers_shapes_are_timed() -> None:
    timed = {op: {case.name for case in listed if case.timed} for op, listed in CASES.items()}
    assert set(timed) == set(lm_kernels.KERNELS)
    assert {"T150-B128-H1024", "T140-B60-H2500", "T32768-B1-H1024", "T20-B4-H64"} <= timed["fo_pool"]
    assert {"T150-B128-H1000", "T200-B128-H1840"} <= timed["lstm"]


@pytest.mark.parametrize("case", [FoPoolCase(4, 2, 3, keep=0.5), LstmCase(4, 2, 5, 3), cases.WeightDropCase(4, 3)])
def test_widened_inputs_are_the_same_values(case: cases.Case) -> None:
    narrow = cases.inputs(case, torch.float16)
    wide = narrow.widened()
    for few, many in zip(narrow.leaves, wide.leaves, strict=True):
        assert (many.dtype, many.is_leaf, many.requires_grad) == (torch.float64, True, True)
        assert torch.equal(many, few.double())
    for mine, theirs in zip(narrow.constants, wide.constants, strict=True):
        assert torch.equal(mine, theirs) if isinstance(mine, torch.Tensor) else mine == theirs


def test_results_of_every_dtype_have_the_same_weights() -> None:
    """The gradient of an identity is the weight of its output."""
    weights = {
        dtype: results(lambda raw, *_: raw.clone(), cases.inputs(cases.WeightDropCase(5, 7), dtype))["gradient of raw"]
        for dtype in (torch.float64, *cases.HALF_TOLERANCES, torch.float32)
    }
    assert all(torch.equal(part, weights[torch.float64].to(dtype)) for dtype, part in weights.items())


@pytest.mark.parametrize("dtype", [*cases.TOLERANCES, *cases.HALF_TOLERANCES], ids=str)
def test_inputs_have_the_shapes_of_the_case_and_are_reproducible(dtype: torch.dtype) -> None:
    first, second = (cases.inputs(FoPoolCase(4, 2, 3, keep=0.5), dtype) for _ in range(2))
    gates, c0 = first.leaves
    assert (gates.shape, gates.dtype) == ((4, 2, 9), dtype)
    assert (c0.shape, c0.dtype) == ((2, 3), torch.promote_types(dtype, torch.float32))
    assert all(torch.equal(a, b) for a, b in zip(first.leaves, second.leaves, strict=True))
    assert set(first.constants[0].unique().tolist()) <= {0.0, 1.0}
    lstm = cases.inputs(LstmCase(4, 2, 5, 3), dtype)
    assert [tuple(leaf.shape) for leaf in lstm.leaves] == [(4, 2, 5), (2, 3), (2, 3), (12, 5), (12, 3), (12,), (12,)]
    assert all(leaf.dtype == dtype and leaf.requires_grad for leaf in lstm.leaves)


@pytest.mark.parametrize("case", [case for case in cases.FO_POOL_CASES if not case.slow], ids=lambda case: case.name)
def test_the_chain_equals_the_reference(case: FoPoolCase) -> None:
    given = cases.inputs(case, torch.float64)
    assert disagreement(results(chain.fo_pool, given), results(reference.fo_pool, given)) is None


def test_the_chain_supports_f_pooling_and_an_output_mask() -> None:
    draw = torch.Generator().manual_seed(4)
    gates = torch.randn(5, 2, 6, generator=draw, dtype=torch.float64)
    c0, mask = (torch.rand(2, 3, generator=draw, dtype=torch.float64) for _ in range(2))
    expected, c = [], c0
    for z, f in zip(gates[..., :3].tanh(), gates[..., 3:].sigmoid(), strict=True):
        c = f * z + (1 - f) * c
        expected.append(c * mask)
    h, last = chain.fo_pool(gates, c0, output_gate=False, out_mask_BH=mask)
    torch.testing.assert_close(h, torch.stack(expected), atol=1e-14, rtol=0)
    torch.testing.assert_close(last, c, atol=1e-14, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("op", "backend", "case"),
    [
        pytest.param(op, backend, case, id=f"{op}-{backend}-{case.name}")
        for op, backends in lm_kernels.KERNELS.items()
        for backend in backends
        if backend != "reference"
        for case in CASES[op]
        if case.slow
    ],
)
def test_every_backend_at_full_size(op: str, backend: str, case: cases.Case) -> None:
    try:
        function = lm_kernels.resolve(op, backend)[1]
    except ValueError as error:
        pytest.skip(str(error))
    given = cases.inputs(case, torch.float32)
    assert disagreement(results(function, given), results(lm_kernels.resolve(op, "reference")[1], given)) is None
