"""Computing rate of a device: a square matrix product in one dtype, timed in a few tenths of a second."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from harness.timing.clocks import clock_for

# Rows and columns, each eight times the work of the one before; the largest that fits the budget is timed.
SIZES = {"cpu": (256, 512, 1024), "cuda": (1024, 2048, 4096, 8192)}

BUDGET_MS = 250.0
MIN_SAMPLES = 3
MAX_SAMPLES = 30


@dataclass(frozen=True, slots=True)
class GemmRate:
    """Rate of A B for square matrices of `size` rows; `flop_per_s` is that of the fastest sample."""

    flop_per_s: float
    size: int
    dtype: str
    device: str
    clock: str
    median_ms: float
    samples_ms: list[float]


def gemm_rate(device: torch.device | str, dtype: torch.dtype, *, budget_ms: float = BUDGET_MS) -> GemmRate:
    """Time a matrix product of normal random numbers.

    Args:
        device: where it runs; the operands are freed on return.
        dtype: of the operands.
        budget_ms: time for all samples, about.

    Returns:
        The rate with every sample.

    Raises:
        RuntimeError: the device has no such product, or too little memory.
    """
    device = torch.device(device)
    clock, sizes = clock_for(device), SIZES[device.type]
    draw = torch.Generator(device).manual_seed(0)  # a run's random numbers stay as they are
    chosen, samples = sizes[0], [0.0]
    for size in sizes:
        left_NN, right_NN = (torch.randn(size, size, generator=draw, device=device).to(dtype) for _ in range(2))
        out_NN = torch.empty_like(left_NN)

        def product(_: Any, out: Any = out_NN, left: Any = left_NN, right: Any = right_NN) -> Any:
            return torch.mm(left, right, out=out)

        product(None)  # the first product of a shape also chooses a kernel
        chosen, samples = size, [clock.time(product, None)[1]]
        if 8 * samples[0] * (MIN_SAMPLES + 1) > budget_ms:
            break
    while len(samples) < MIN_SAMPLES or (sum(samples) + samples[-1] < budget_ms and len(samples) < MAX_SAMPLES):
        samples.append(clock.time(product, None)[1])
    return GemmRate(
        flop_per_s=2 * chosen**3 / (min(samples) / 1e3),
        size=chosen,
        dtype=str(dtype).removeprefix("torch."),
        device=str(device),
        clock=clock.name,
        median_ms=median(samples),
        samples_ms=samples,
    )
