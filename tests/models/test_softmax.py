"""The full softmax in parts: the same results with bounded memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from lm_models import softmax
from lm_models.softmax import MIN_ROWS, Softmax

WIDTH, WORDS = 12, 500


def inputs(num_rows: int, dtype: torch.dtype) -> tuple[Softmax, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(num_rows)
    layer = Softmax(WORDS, WIDTH, tied=True).to(dtype)
    torch.nn.init.normal_(layer.bias)
    h, tied = torch.randn(num_rows, 1, WIDTH, dtype=dtype), torch.randn(WORDS, WIDTH, dtype=dtype)
    return layer, h, torch.randint(WORDS, (num_rows, 1)), tied


@settings(max_examples=30, deadline=None)
@given(num_rows=st.integers(1, 700), part=st.sampled_from([1, 64 * WORDS, 200 * WORDS]))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parts_give_the_same_results_and_are_bounded(num_rows: int, part: int, dtype: torch.dtype) -> None:
    layer, h, targets, tied = inputs(num_rows, dtype)
    complete = layer.nll(h, targets, tied)
    seen = []

    def count_rows(self: Softmax, h_NH: torch.Tensor, tied_VH: torch.Tensor) -> torch.Tensor:
        seen.append(len(h_NH))
        return functional.linear(h_NH, tied_VH, self.bias)

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(softmax, "PART_LOGITS", part)
        patch.setattr(Softmax, "_logits", count_rows)
        parts = layer.nll(h, targets, tied)
    torch.testing.assert_close(parts, complete.detach(), rtol=1e-5 if dtype == torch.float32 else 1e-13, atol=0)
    assert parts.shape == targets.shape
    assert sum(seen) == num_rows
    assert max(seen) < max(part // WORDS, MIN_ROWS) + MIN_ROWS
    assert min(seen) >= min(num_rows, MIN_ROWS)


def test_training_and_small_windows_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, h, targets, tied = inputs(300, torch.float32)
    sizes: list[int] = []
    plain: Any = Softmax._logits
    monkeypatch.setattr(Softmax, "_logits", lambda self, rows, tied: sizes.append(len(rows)) or plain(self, rows, tied))
    with torch.no_grad():
        layer.nll(h, targets, tied)
    monkeypatch.setattr(softmax, "PART_LOGITS", 1)
    layer.nll(h, targets, tied)
    assert sizes == [300, 300]
