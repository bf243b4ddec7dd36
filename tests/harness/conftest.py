"""Fixtures of the harness tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from leaky_model import Leaky

from harness.timing import ceilings


@pytest.fixture
def leaky() -> Leaky:
    torch.manual_seed(3)
    return Leaky(7).double()


@pytest.fixture
def ids() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 7, size=1201).astype(np.uint8)


@pytest.fixture
def small_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with small caches and ceilings: real ones take most of the time of a benchmark of a tiny case."""
    monkeypatch.setattr(ceilings, "_CPU_CACHES", tmp_path / "no caches")
    monkeypatch.setattr(ceilings, "FALLBACK_CACHE_BYTES", 1 << 20)
    monkeypatch.setattr(ceilings, "MIN_ARRAY_BYTES", {"cpu": 1 << 16})
    monkeypatch.setattr(ceilings, "GEMM_SIZE", {"cpu": 8})
