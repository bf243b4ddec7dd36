from __future__ import annotations

import numpy as np
import pytest
import torch
from leaky_model import Leaky, numpy_states_and_probs
from torch import nn

from harness.core.errors import CheckpointError
from harness.evaluation.generate import Sampling, generate


class Memoryless(nn.Module):
    """Every token has the same distribution after any text."""

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
    return list(generate(Memoryless(probabilities), [0], Sampling(**how)))  # type: ignore[arg-type]


def test_a_seed_names_a_text() -> None:
    uniform = [0.25] * 4
    first = drawn(uniform, num_tokens=40, seed=1)
    assert first == drawn(uniform, num_tokens=40, seed=1)
    assert first != drawn(uniform, num_tokens=40, seed=2)
    assert first[:10] == drawn(uniform, num_tokens=10, seed=1)
    skewed = [0.5, 0.3, 0.2]
    assert drawn(skewed, num_tokens=40) == drawn(skewed, num_tokens=40, temperature=1.0, seed=0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_are_the_tempered_probabilities(temperature: float) -> None:
    probabilities = [0.5, 0.3, 0.15, 0.05]
    expected = np.array(probabilities) ** (1 / temperature)
    expected /= expected.sum()
    counts = np.bincount(drawn(probabilities, num_tokens=4000, temperature=temperature), minlength=4)
    assert np.abs(counts / 4000 - expected).max() < 4 * np.sqrt(0.25 / 4000)


@pytest.mark.parametrize(
    ("probabilities", "how", "tokens"),
    [
        ([0.2, 0.4, 0.4], {"temperature": 0.0}, {1}),  # the first of equals
        ([0.2, 0.5, 0.3], {"temperature": 1e-8}, {1}),
        ([0.3, 0.1, 0.4, 0.2], {}, {0, 1, 2, 3}),
    ],
)
def test_temperature_limits_the_choice(probabilities: list[float], how: dict[str, object], tokens: set[int]) -> None:
    assert set(drawn(probabilities, num_tokens=200, **how)) == tokens


def test_greedy_text_follows_the_state_after_all_text_before_it() -> None:
    torch.manual_seed(35)
    model, text = Leaky(7).double(), [3, 1, 4]
    for token in generate(model, text[:], Sampling(num_tokens=20, temperature=0.0)):
        _, probabilities = numpy_states_and_probs(model, np.array([*text, 0]))
        assert token == probabilities[-1].argmax()
        text.append(token)
    assert len(set(text[3:])) > 2


def test_a_model_whose_weights_are_not_finite_is_refused() -> None:
    with pytest.raises(CheckpointError, match="weights are not finite"):
        drawn([float("nan"), 0.5], num_tokens=1)
