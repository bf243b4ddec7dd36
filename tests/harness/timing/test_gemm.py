from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.timing import gemm


class Steady:
    """A clock on which a product of size n takes n^3 / 1e6 ms, and three times that at first."""

    name = "steady"

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def time(self, phase: Any, argument: Any) -> tuple[Any, float]:
        result = phase(argument)
        self.sizes.append(len(result))
        return result, len(result) ** 3 / 1e6 * (3 if self.sizes.count(len(result)) == 1 else 1)


@pytest.mark.parametrize(("budget_ms", "size"), [(1e9, 32), (0.07, 16), (0.01, 8)])
def test_the_largest_size_that_fits_is_timed_and_its_best_sample_is_the_rate(
    monkeypatch: pytest.MonkeyPatch, budget_ms: float, size: int
) -> None:
    clock = Steady()
    monkeypatch.setattr(gemm, "SIZES", {"cpu": (8, 16, 32)})
    monkeypatch.setattr(gemm, "clock_for", lambda _: clock)
    rate = gemm.gemm_rate("cpu", torch.float64, budget_ms=budget_ms)
    assert (rate.size, rate.dtype, rate.clock) == (size, "float64", "steady")
    assert rate.flop_per_s == pytest.approx(2e9)
    assert gemm.MIN_SAMPLES <= len(rate.samples_ms) <= gemm.MAX_SAMPLES


def test_a_runs_random_numbers_stay_the_same() -> None:
    before = torch.get_rng_state()
    rate = gemm.gemm_rate("cpu", torch.float32, budget_ms=5.0)
    assert torch.equal(torch.get_rng_state(), before)
    assert rate.flop_per_s == pytest.approx(2 * rate.size**3 / (min(rate.samples_ms) / 1e3))
