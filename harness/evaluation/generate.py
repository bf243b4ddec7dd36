"""Text out of a model, token by token: `harness sample`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from harness.core.errors import CheckpointError
from harness.core.interfaces import LanguageModel
from harness.evaluation.protocols import device_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is drawn. temperature 0 takes the likeliest; top_k draws from that many of them only."""

    num_tokens: int
    temperature: float = 1.0
    top_k: int | None = None
    seed: int = 0


@torch.no_grad()
def generate(model: LanguageModel, prompt: list[int], sampling: Sampling) -> Iterator[int]:
    """Yield ids that go on from the prompt, the same ones for the same seed.

    Draws are made on the host in float64, so that a device's own generator has no say. Raises CheckpointError where
    the model gives no distribution.
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
    """One id. Ties go to the lower one, so that greedy text is the same everywhere."""
    order_V = torch.argsort(log_probs_V, descending=True, stable=True)
    if sampling.temperature == 0:
        return int(order_V[0])
    kept_K = order_V[: sampling.top_k] if sampling.top_k is not None else order_V
    # Sums over the likeliest first; with very small temperatures all but a few underflow to zero, as they should.
    weights_K = torch.exp((log_probs_V[kept_K] - log_probs_V[order_V[0]]) / sampling.temperature)
    sums_K = weights_K.cumsum(0)
    point = torch.rand((), generator=generator, dtype=torch.float64) * sums_K[-1]
    place = int(torch.searchsorted(sums_K, point, right=True))
    return int(kept_K[min(place, len(kept_K) - 1)])
