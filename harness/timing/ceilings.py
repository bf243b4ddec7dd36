"""Limits of the machine, measured in the same rounds as the kernels: copy, triad and a matrix product.

Triad is STREAM's a = b + s c (McCalpin 1995).
"""

from __future__ import annotations

from pathlib import Path

import torch

from harness.timing.clocks import Candidate

COPY, TRIAD, GEMM = "copy", "triad", "gemm"

# Assumed size of the last-level cache if the system does not state it.
FALLBACK_CACHE_BYTES = 32 << 20

MIN_ARRAY_BYTES = {"cpu": 128 << 20, "cuda": 1 << 30}

# Rows and columns of the product: large enough to run at full speed, in milliseconds to tens of them.
GEMM_SIZE = {"cpu": 1024, "cuda": 8192}

_CPU_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_SUFFIXES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def cache_bytes(device: torch.device | str) -> int:
    """Size of the last cache before memory: L3 of a processor, L2 of a CUDA device."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    return max((_size(path) for path in _CPU_CACHES.glob("index*/size")), default=0) or FALLBACK_CACHE_BYTES


def _size(path: Path) -> int:
    """`32768K` -> 33554432; 0 if it cannot be read."""
    try:
        text = path.read_text(encoding="ascii").strip()
        return int(text[:-1]) * _SUFFIXES[text[-1]] if text[-1:] in _SUFFIXES else int(text)
    except (OSError, ValueError):
        return 0


class Flusher:
    """Empties the caches by reading a buffer of twice the size of the last one.

    It only reads: modified lines would be written back during the measurement that follows.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.buffer_N = torch.zeros(2 * cache_bytes(device) // 8, dtype=torch.float64, device=self.device)

    def __call__(self) -> None:
        """Read the buffer and wait for the device."""
        self.buffer_N.sum()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class Ceilings:
    """Copy and triad over arrays of at least four caches, and a square matrix product.

    Copy counts one read and one write per value, triad two reads and one write. The fetch of a line before it is
    written is not counted, as it is not in a kernel's own bytes.

    Args:
        device: where they run.
        dtype: of the product; copy and triad are in float32.
    """

    def __init__(self, device: torch.device | str, dtype: torch.dtype) -> None:
        device = torch.device(device)
        size = max(4 * cache_bytes(device), MIN_ARRAY_BYTES[device.type])
        number = max(1, size // 4)
        self.a_N, self.b_N, self.c_N = (torch.ones(number, device=device) for _ in range(3))
        self.gemm_size = GEMM_SIZE[device.type]
        # Random operands: over equal ones a GPU draws less power, and clocks higher, than over real data. A separate
        # generator leaves the run's random numbers alone.
        shape, draw = (self.gemm_size, self.gemm_size), torch.Generator(device).manual_seed(0)
        self.left_NN, self.right_NN = (torch.randn(shape, generator=draw, device=device).to(dtype) for _ in range(2))
        self.product_NN = torch.empty(shape, dtype=dtype, device=device)

    def candidates(self) -> list[Candidate]:
        """One candidate each, with one phase of the same name."""
        return [
            Candidate(COPY, {COPY: lambda _: self.a_N.copy_(self.b_N)}),
            Candidate(TRIAD, {TRIAD: lambda _: torch.add(self.b_N, self.c_N, alpha=0.5, out=self.a_N)}),
            Candidate(GEMM, {GEMM: lambda _: torch.mm(self.left_NN, self.right_NN, out=self.product_NN)}),
        ]

    def work(self) -> dict[str, int]:
        """Bytes moved by copy and triad, floating point operations of the product."""
        array = self.a_N.numel() * self.a_N.element_size()
        return {COPY: 2 * array, TRIAD: 3 * array, GEMM: 2 * self.gemm_size**3}
