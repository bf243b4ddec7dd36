from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from harness.core.errors import CheckpointError
from harness.evaluation.generate import Sampling, generate


class Memoryless(nn.Module):
    """Every token has the same distribution, whatever came before."""

    def __init__(self, probabilities: list[float]) -> None:
        super().__init__()
        self.generator = None
        self.log = nn.Parameter(torch.tensor(probabilities).log())

    def initial_state(self, batch: int) -> torch.Tensor:
        return torch.zeros(1, batch, 1)

    def features(self, inputs_TB: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(*inputs_TB.shape, 1), state + len(inputs_TB)

    def log_probs(self, h_NH: torch.Tensor) -> torch.Tensor:
        return self.log.expand(len(h_NH), -1)


def drawn(probabilities: list[float], **how: object) -> list[int]:
    model = Memoryless(probabilities)
    return list(generate(model, [0], Sampling(**how)))  # type: ignore[arg-type]


def test_the_same_seed_draws_the_same_text_and_another_another() -> None:
    uniform = [0.25] * 4
    first = drawn(uniform, num_tokens=40, seed=1)
    assert first == drawn(uniform, num_tokens=40, seed=1)
    assert first != drawn(uniform, num_tokens=40, seed=2)
    assert first[:10] == drawn(uniform, num_tokens=10, seed=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_are_the_tempered_probabilities(temperature: float) -> None:
    probabilities = [0.5, 0.3, 0.15, 0.05]
    expected = np.array(probabilities) ** (1 / temperature)
    expected /= expected.sum()
    counts = np.bincount(drawn(probabilities, num_tokens=4000, temperature=temperature), minlength=4)
    assert np.abs(counts / 4000 - expected).max() < 4 * np.sqrt(0.25 / 4000)


def test_temperature_zero_takes_the_likeliest_and_the_first_of_equals() -> None:
    assert drawn([0.2, 0.4, 0.4], num_tokens=5, temperature=0.0) == [1] * 5


def test_top_k_draws_from_the_likeliest_only() -> None:
    assert set(drawn([0.3, 0.1, 0.4, 0.2], num_tokens=200, top_k=2)) == {0, 2}
    assert set(drawn([0.3, 0.1, 0.4, 0.2], num_tokens=200, top_k=99)) == {0, 1, 2, 3}


def test_a_tiny_temperature_is_greedy_and_stays_finite() -> None:
    assert drawn([0.2, 0.5, 0.3], num_tokens=20, temperature=1e-8) == [1] * 20


def test_a_model_of_broken_weights_is_told_in_words() -> None:
    with pytest.raises(CheckpointError, match="weights are not finite"):
        drawn([float("nan"), 0.5], num_tokens=1)
