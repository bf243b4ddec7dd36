"""Sample text from a model, token by token: `harness sample`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from harness.core.errors import CheckpointError
from harness.core.interfaces import LanguageModel
from harness.evaluation.protocols import device_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn: `temperature` divides the log-probabilities; 0 takes the likeliest token."""

    num_tokens: int
    temperature: float = 1.0
    seed: int = 0


@torch.no_grad()
def generate(model: LanguageModel, prompt: Sequence[int], sampling: Sampling) -> Iterator[int]:
    """Yield token ids that continue a prompt.

    Draws are made on the host in float64, so that the same seed gives the same text on every device, up to the
    rounding of its probabilities.

    Args:
        model: in evaluation mode.
        prompt: ids, at least one.

    Yields:
        The next id.

    Raises:
        CheckpointError: the model's probabilities are not numbers.
    """
    generator = torch.Generator().manual_seed(sampling.seed)
    device = device_of(model)
    h_TBH, state = model.features(torch.tensor(prompt, device=device).unsqueeze(1), model.initial_state(1))
    for number in range(sampling.num_tokens):
        log_probs_V = model.log_probs(h_TBH[-1])[0].double().cpu()
        if log_probs_V.isnan().any():
            raise CheckpointError("the model gives no probabilities: some of its weights are not finite")
        token = _draw(log_probs_V, sampling, generator)
        yield token
        if number + 1 < sampling.num_tokens:
            h_TBH, state = model.features(torch.tensor([[token]], device=device), state)


def _draw(log_probs_V: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    # Stable: of equally likely tokens the lower id comes first, so that greedy text is the same everywhere.
    order_V = torch.argsort(log_probs_V, descending=True, stable=True)
    if sampling.temperature == 0:
        return int(order_V[0])
    # Relative to the likeliest token. At a tiny temperature the other weights underflow to 0, as they should.
    weights_V = torch.exp((log_probs_V[order_V] - log_probs_V[order_V[0]]) / sampling.temperature)
    cumulative_V = weights_V.cumsum(0)
    point = torch.rand((), generator=generator, dtype=torch.float64) * cumulative_V[-1]
    position = int(torch.searchsorted(cumulative_V, point, right=True))
    # Rounding may put the point at the very end.
    return int(order_V[min(position, len(order_V) - 1)])
