"""Fixtures of the harness tests."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from leaky_model import Leaky


@pytest.fixture
def leaky() -> Leaky:
    torch.manual_seed(3)
    return Leaky(7).double()


@pytest.fixture
def ids() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 7, size=1201).astype(np.uint8)
