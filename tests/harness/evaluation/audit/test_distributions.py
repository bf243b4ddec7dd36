"""The windows that an audit looks at, and their lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

import harness
from harness.evaluation.audit.distributions import check, sample_windows
from lm_models.plugin.adapter import Adapter


@pytest.mark.parametrize(
    ("num_tokens", "starts", "steps"),
    [(996, range(0, 996, 133), 64), (128, range(0, 64, 9), 64), (127, (0, 62), 64), (65, (0,), 64), (2, (0,), 1)],
)
def test_windows_are_spread_over_the_text(num_tokens: int, starts: Sequence[int], steps: int) -> None:
    """Eight, two of a text that two windows would fill, one of a text of one window."""
    windows_TB = sample_windows(np.arange(num_tokens))
    assert windows_TB[0].tolist() == list(starts)
    assert (windows_TB - windows_TB[0] == np.arange(steps + 1)[:, None]).all()
    assert windows_TB[-1, -1] == num_tokens - 1


@pytest.mark.parametrize("length", [1, 7])
def test_windows_are_read_token_by_token_and_by_seven(length: int) -> None:
    """A model that is wrong in windows of one token alone, or of seven alone, is caught."""

    class WrongAt(harness.Model):
        def forward(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            scores_TBV = (
                torch.linspace(0, 1, 12).roll(1 if len(tokens_TB) == length else 0).expand(*tokens_TB.shape, 12)
            )
            return scores_TBV.log_softmax(-1), state

        def initial_state(self, batch: int) -> Tensor:
            return torch.zeros(1, batch, 1)

    checks = check(Adapter(WrongAt()).eval(), np.arange(300) % 12, 12, "float32")
    assert [each.passed for each in checks] == [True, True, True, False]
