"""Checks of an adaptive protocol: it predicts with distributions, and learns from a target after it is scored only.

Letters: N tokens, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch

from harness.core.audits import Check
from harness.evaluation.adaptive.methods import Method, Setting
from harness.evaluation.audit.checks import judge
from harness.evaluation.audit.distributions import Differences, judge_mass, largest, largest_difference, most_nats
from harness.evaluation.protocols import device_of

# Targets from the beginning of the text. The second is above the 1,024 that dynamic evaluation hands over at a time.
_DISTRIBUTIONS, _STRETCH = 512, 2048
_CUTS = (0.25, 0.5, 0.75)


def check(method: Method, setting: Setting, ids: np.ndarray, vocab_size: int, dtype: str) -> list[Check]:
    """Run the checks `mass`, `loss` and `single pass`.

    Args:
        method: the protocol, prepared; its model ends with the weights it has.
        setting: of its hyperparameters.
        ids: of the text (N,), N at least 2.
        vocab_size: V.
        dtype: that the model computes in.
    """
    bound = most_nats(dtype)
    ids = np.asarray(ids[: _STRETCH + 1]).astype(np.int64)
    return [*_distributions(method, setting, ids, dtype), _single_pass(method, setting, ids, vocab_size, bound)]


@torch.no_grad()
def _distributions(method: Method, setting: Setting, ids: np.ndarray, dtype: str) -> list[Check]:
    ids = ids[: _DISTRIBUTIONS + 1]
    expected, worst, lowest = [], 0.0, 1.0
    with method.by_token(setting) as reader:
        state, device = reader.initial_state(1), device_of(reader)
        for token, target in zip(ids[:-1].tolist(), ids[1:].tolist(), strict=True):
            h_11H, state = reader.features(torch.tensor([[token]], device=device), state)
            log_probs_V = reader.log_probs(h_11H[0])[0].double()
            probs_V = log_probs_V.exp()
            worst, lowest = max(worst, largest(probs_V.sum() - 1)), min(lowest, float(probs_V.min()))
            expected.append(-float(log_probs_V[target]))
    places = f"the first {len(expected):,} positions of the text"
    differences = Differences(dtype)
    differences.add(torch.from_numpy(_losses(method, setting, ids)), torch.tensor(expected, dtype=torch.float64))
    catches = "a loss that is not -ln p of the distribution before its target is learnt"
    return [
        judge_mass(worst, lowest, f"{places}, {len(probs_V):,} probabilities each"),
        differences.judge("loss", catches, f"{places}, read token by token"),
    ]


def _single_pass(method: Method, setting: Setting, ids: np.ndarray, vocab_size: int, bound: float) -> Check:
    num_targets = len(ids) - 1
    shift_N = np.random.default_rng(0).integers(1, max(2, vocab_size), len(ids))
    others = (ids + shift_N) % vocab_size
    before, worst, where = _losses(method, setting, ids), 0.0, "nothing moves"
    for cut in sorted({max(1, int(num_targets * share)) for share in _CUTS}):
        # Token `cut` is the last that stays, and target `cut - 1` of the losses.
        after = _losses(method, setting, np.concatenate([ids[: cut + 1], others[cut + 1 :]]))
        moved = largest_difference(torch.from_numpy(before[:cut]), torch.from_numpy(after[:cut]))
        if not moved <= worst:
            worst, where = moved, f"text after target {cut:,} moves a loss before it"
    return judge(
        "single pass",
        "an adaptation that has read the target or what follows it",
        worst,
        bound,
        "nats of one target",
        f"the first {num_targets:,} targets, with the text after a target replaced; "
        f"{where if worst > bound else 'nothing moves'}",
    )


def _losses(method: Method, setting: Setting, ids: np.ndarray) -> np.ndarray:
    """Loss of each target (N - 1,) under the protocol; NaN after it diverged."""
    losses = np.full(len(ids) - 1, np.nan)

    def take(first: int, nll: np.ndarray) -> None:
        losses[first : first + len(nll)] = nll

    method.nll(ids, setting, take)
    return losses
