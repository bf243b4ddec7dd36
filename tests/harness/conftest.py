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
    """A machine with a small cache: emptying a real one before each sample takes most of a benchmark of a tiny case."""
    monkeypatch.setattr(ceilings, "_CPU_CACHES", tmp_path / "no caches")
    monkeypatch.setattr(ceilings, "FALLBACK_CACHE_BYTES", 1 << 20)
