"""What the device can compute: a square matrix product in one dtype, timed in a few tenths of a second."""

from __future__ import annotations

from typing import Any

import torch

from harness.timing.clocks import clock_for, median

SIZES = {"cpu": (256, 512, 1024), "cuda": (1024, 2048, 4096, 8192)}
"""Rows and columns, each eight times the work of the one before: the largest that fits the budget is taken."""

BUDGET_MS = 250.0
MIN_SAMPLES = 3
MAX_SAMPLES = 30


def gemm_rate(device: torch.device | str, dtype: torch.dtype, *, budget_ms: float = BUDGET_MS) -> dict[str, Any]:
    """Floating point operations per second of A B, square matrices of `dtype`: `flop_per_s` is of the fastest sample.

    The result says size, dtype, clock and every sample in milliseconds. Operands are normal numbers of a generator of
    their own, so that no run's random numbers move; they are freed on return. Raises RuntimeError where the device
    has no such product, or no room for it.
    """
    place = torch.device(device)
    clock, sizes = clock_for(place), SIZES[place.type]
    draw = torch.Generator(place).manual_seed(0)
    chosen, samples = sizes[0], [0.0]
    for size in sizes:
        left_NN, right_NN = (torch.randn(size, size, generator=draw, device=place).to(dtype) for _ in range(2))
        out_NN = torch.empty_like(left_NN)

        def product(_: Any, out: Any = out_NN, left: Any = left_NN, right: Any = right_NN) -> Any:
            return torch.mm(left, right, out=out)

        product(None)  # the first of a shape also prepares
        chosen, samples = size, [clock.time(product, None)[1]]
        if 8 * samples[0] * (MIN_SAMPLES + 1) > budget_ms:
            break
    while len(samples) < MIN_SAMPLES or (sum(samples) + samples[-1] < budget_ms and len(samples) < MAX_SAMPLES):
        samples.append(clock.time(product, None)[1])
    return {
        "flop_per_s": 2 * chosen**3 / (min(samples) / 1e3),
        "size": chosen,
        "dtype": str(dtype).removeprefix("torch."),
        "device": str(place),
        "clock": clock.name,
        "median_ms": median(samples),
        "samples_ms": samples,
    }
