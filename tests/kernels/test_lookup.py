"""Rows of a small table and sums by row: against a loop in float64, for any threads, instruction sets and dtypes."""

from __future__ import annotations

import pytest
import torch
from kernel_support import LEVELS, assert_equal, draw, needs_library, on_threads
from torch import Tensor

from lm_kernels import lookup
from lm_kernels.compiled import library

SIZES = [(0, 1, 4, 3), (1, 1, 1, 1), (7, 2, 5, 3), (40, 1, 64, 9), (33, 2, 150, 11)]


def numbers(num: int, each: int, num_rows: int) -> Tensor:
    return torch.randint(num_rows, (num, each), generator=torch.Generator().manual_seed(3))


def loop(ids_NK: Tensor, values_NG: Tensor, num_rows: int) -> Tensor:
    sums_RG = torch.zeros(num_rows, values_NG.shape[1], dtype=torch.float64)
    for ids, value in zip(ids_NK.tolist(), values_NG.double(), strict=True):
        for number in ids:
            sums_RG[number] += value
    return sums_RG


@pytest.mark.parametrize("compiled", [pytest.param(True, marks=needs_library), False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_sums_are_those_of_a_loop(
    sizes: tuple[int, int, int, int], dtype: torch.dtype, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    num, each, columns, num_rows = sizes
    ids, values = numbers(num, each, num_rows), draw(num, columns).to(dtype)
    if not compiled:
        monkeypatch.setattr(library, "unavailable", lambda device: "no compiler")
    sums = lookup.sums_by_row(ids, values, num_rows)
    assert sums.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    tolerance = 1e-13 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(sums.double(), loop(ids, values, num_rows), rtol=tolerance, atol=tolerance)


@needs_library
@pytest.mark.parametrize("level", LEVELS)
def test_each_set_of_instructions_has_the_same_bits(level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, values = numbers(50, 2, 6), draw(50, 100, dtype=torch.float32)
    first = lookup.sums_by_row(ids, values, 6)
    monkeypatch.setattr(library, "num_levels", lambda: level)
    assert torch.equal(lookup.sums_by_row(ids, values, 6), first)


@needs_library
@pytest.mark.parametrize("team", ["torch", "own"])
def test_threads_do_not_change_the_bits_of_sums(team: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "_MIN_ELEMENTS_PER_THREAD", 1)
    ids, values = numbers(300, 1, 7), draw(300, 333, dtype=torch.float32)
    first, *others = on_threads(lambda: [lookup.sums_by_row(ids, values, 7)], monkeypatch, team)
    for other in others:
        assert_equal(first, other)


@pytest.mark.parametrize("each", [1, 2])
def test_rows_are_added_and_differentiable_twice(each: int) -> None:
    ids, table = numbers(6, each, 5).view(2, 3, each), draw(5, 4).requires_grad_()
    torch.testing.assert_close(lookup.sums_of_rows(ids, table), table[ids].sum(dim=2), rtol=0, atol=1e-15)
    assert torch.autograd.gradcheck(lambda x: lookup.sums_of_rows(ids, x), table)
    assert torch.autograd.gradgradcheck(lambda x: lookup.sums_of_rows(ids, x).square(), table)


@pytest.mark.parametrize("each", [1, 2])
@pytest.mark.parametrize("number", [-1, 5])
def test_a_number_that_is_no_row_is_refused(number: int, each: int) -> None:
    ids = torch.tensor([[0] * each, [number] * each])
    with pytest.raises((IndexError, RuntimeError)):
        lookup.sums_of_rows(ids, draw(5, 4))
