"""Shared by the benchmarks: pytest tests/benchmarks --benchmark-only -o addopts='' (-m 'not slow' for small cases)."""

from __future__ import annotations

import pytest
import torch

from harness.checkpoints import model


@pytest.fixture(scope="session")
def device() -> str:
    model.forbid_tf32()
    return "cuda" if torch.cuda.is_available() else "cpu"
