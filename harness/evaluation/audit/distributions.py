"""Checks of a model's probabilities on windows of a text: they are distributions, and nothing comes from the future.

The model has two ways to its probabilities: the loss that scoring adds up, which is given the targets, and the complete
distribution, which is not. Letters: T time, B windows of the text as streams, V vocabulary.

    >>> tokens_TB = sample_windows(np.arange(100))
    >>> tokens_TB.shape
    (65, 2)
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from harness.core.audits import Check
from harness.core.interfaces import LanguageModel
from harness.evaluation.audit.checks import attempt, judge
from harness.evaluation.protocols import device_of
from lm_models.step import step_over

_STEPS, _WINDOWS = 64, 8
_CUTS = (0.25, 0.5, 0.75)

# A sum of 1 + x saves x / ln 2 bits per target; float32 rounding of large vocabularies stays below a tenth of this.
_MASS = 1e-4
_SHARE = 1e-4  # of probability that may move when nothing should
# Of one loss, in nats. Kernels sum in another order for another shape; 16 bits carry three decimal digits.
_NATS = 1e-3
_NATS_OF_16_BITS = 0.1
# Of a mean: standard errors of the differences, and a share of the bound of one for errors that are not independent.
_STD_ERRORS, _SHARE_OF_BOUND = 4, 0.01


def sample_windows(ids: np.ndarray) -> np.ndarray:
    """Windows at equal distances over a text (N,): tokens (T + 1, B), fewer of both for a short text."""
    steps = min(_STEPS, len(ids) - 1)
    starts_B = np.unique(np.linspace(0, len(ids) - 1 - steps, _WINDOWS).astype(np.int64))
    if len(ids) < 2 * _STEPS:
        starts_B = starts_B[[0, -1]] if len(starts_B) > 1 else starts_B
    windows_TB: np.ndarray = np.asarray(ids[starts_B[None, :] + np.arange(steps + 1)[:, None]]).astype(np.int64)
    return windows_TB


@torch.no_grad()
def check(model: LanguageModel, ids: np.ndarray, vocab_size: int, dtype: str) -> list[Check]:
    """Run the checks `mass`, `loss`, `causality` and `invariance`; each fails if the model raises an error.

    Args:
        model: in evaluation mode.
        ids: of the text (N,), N at least 2.
        vocab_size: V.
        dtype: that the model computes in.
    """
    probe = _Probe(model, sample_windows(ids), vocab_size, dtype)
    checks = (probe.mass, probe.loss, probe.causality, probe.invariance)
    return [attempt(run.__name__, run) for run in checks]


def most_nats(dtype: str) -> float:
    """How far one loss, in nats, may move by rounding alone."""
    return _NATS_OF_16_BITS if "16" in dtype else _NATS


class Differences:
    """Losses of scoring next to those of distributions: each difference is bounded, and how much is saved on average.

    Rounding moves a loss up as often as down, so its mean is within a few standard errors of 0.

    Args:
        dtype: that the model computes in.
    """

    def __init__(self, dtype: str) -> None:
        self.bound = most_nats(dtype)
        self.worst, self.num_targets = 0.0, 0
        self._saved, self._squares = 0.0, 0.0

    def add(self, nll: Tensor, expected: Tensor) -> float:
        """Compare losses with those of distributions, of the same shape. Returns the largest difference of these."""
        nll, expected = nll.double().cpu(), expected.double().cpu()
        worst = largest_difference(nll, expected)
        saved = torch.where(nll == expected, 0.0, expected - nll)
        self._saved += float(saved.sum())
        self._squares += float(saved.square().sum())
        self.num_targets += saved.numel()
        self.worst = worst if not worst <= self.worst else self.worst
        return worst

    def judge(self, name: str, catches: str, detail: str) -> Check:
        """The check of this name; its figure is the mean where only that is above its bound."""
        if self.worst <= self.bound and self.num_targets:
            mean = self._saved / self.num_targets
            error = math.sqrt(self._squares) / self.num_targets
            most = _STD_ERRORS * error + _SHARE_OF_BOUND * self.bound
            if mean > most:
                return judge(name, catches, mean, most, "nats saved on average", detail)
        return judge(name, catches, self.worst, self.bound, "nats of one target", detail)


def judge_mass(worst: float, lowest: float, places: str) -> Check:
    """The check `mass` of the largest |sum - 1| and the smallest probability."""
    catches = "probabilities that sum to more than 1 promise codes that do not exist"
    return judge("mass", catches, worst, _MASS, "from 1", f"{places}; the smallest probability {lowest:.3g}")


class _Probe:
    """A model on sampled windows, each read from the zero state."""

    def __init__(self, model: LanguageModel, tokens_TB: np.ndarray, vocab_size: int, dtype: str) -> None:
        self.model, self.device = model, device_of(model)
        self.tokens_TB = torch.from_numpy(tokens_TB)
        self.steps, self.windows = self.tokens_TB.shape[0] - 1, self.tokens_TB.shape[1]
        self.vocab_size, self.dtype, self.bound_nats = vocab_size, dtype, most_nats(dtype)
        generator = torch.Generator().manual_seed(0)
        # Another token everywhere, except in a vocabulary of one.
        shift_TB = torch.randint(1, max(2, vocab_size), self.tokens_TB.shape, generator=generator)
        self.others_TB = (self.tokens_TB + shift_TB) % vocab_size
        self.places = f"{self.steps * self.windows:,} positions in {self.windows} windows of the text"

    def mass(self) -> Check:
        worst, lowest = 0.0, 1.0
        for log_probs_TV in self._distributions(self.tokens_TB):
            probs_TV = log_probs_TV.double().exp()
            worst = max(worst, largest(probs_TV.sum(-1) - 1))
            lowest = min(lowest, float(probs_TV.min()))
        return judge_mass(worst, lowest, f"{self.places}, {probs_TV.shape[-1]:,} probabilities each")

    def loss(self) -> Check:
        # Both the text's own targets and others in their place: a loss that knows its target is low for each.
        differences = Differences(self.dtype)
        for targets_TB in (self.tokens_TB[1:], self.others_TB[1:]):
            nll_TB = self._losses(self.tokens_TB[:-1], targets_TB)
            for column, log_probs_TV in enumerate(self._distributions(self.tokens_TB)):
                target_T = targets_TB[:, column].to(log_probs_TV.device).unsqueeze(-1)
                expected_T = -log_probs_TV.double().gather(-1, target_T).squeeze(-1)
                differences.add(nll_TB[:, column], expected_T)
        return differences.judge(
            "loss",
            "a loss that is not -ln p of the model's distribution: bits for nats, or a target that helps itself",
            f"{self.places}, with the text's targets and with others in their place",
        )

    def causality(self) -> Check:
        before_TB = self._losses(self.tokens_TB[:-1], self.tokens_TB[1:])
        moved, where = 0.0, "nothing moves"
        for cut in sorted({max(1, int(self.steps * share)) for share in _CUTS}):
            # The inputs until `cut` stay, and with them the targets before it.
            changed_TB = torch.cat([self.tokens_TB[: cut + 1], self.others_TB[cut + 1 :]])
            after_TB = self._losses(changed_TB[:-1], changed_TB[1:])
            nats = largest_difference(before_TB[:cut], after_TB[:cut])
            share = 0.0
            both = zip(self._distributions(self.tokens_TB), self._distributions(changed_TB), strict=True)
            for log_probs_TV, other_TV in both:
                distance_T = (log_probs_TV[: cut + 1].double().exp() - other_TV[: cut + 1].double().exp()).abs().sum(-1)
                share = max(share, largest(distance_T) / 2)
            # A loss may move by more than its probability does; each has the bound of its own kind.
            figure = max(share, nats / self.bound_nats * _SHARE)
            if not figure <= moved:
                moved, where = figure, f"tokens after step {cut} move a prediction before them"
        return judge(
            "causality",
            "a model that reads the target or what follows it",
            moved,
            _SHARE,
            "of the probability moved",
            f"{self.places}, with the text after a step replaced; {where if moved > _SHARE else 'nothing moves'}",
        )

    def invariance(self) -> Check:
        inputs_TB, targets_TB = self.tokens_TB[:-1], self.tokens_TB[1:]
        whole_TB = self._losses(inputs_TB, targets_TB)
        worst = 0.0
        for column in range(self.windows):
            alone_T = self._losses(inputs_TB[:, [column]], targets_TB[:, [column]])[:, 0]
            worst = max(worst, largest_difference(whole_TB[:, column], alone_T))
        for window in (1, 7):
            state, parts = self.model.initial_state(self.windows), []
            for first in range(0, self.steps, window):
                tokens_TB = self.tokens_TB[first : first + window + 1]
                step = step_over(self.model, tokens_TB, state, self.device)
                parts.append(step.nll_TB)
                state = step.state
            worst = max(worst, largest_difference(whole_TB, torch.cat(parts)))
        return judge(
            "invariance",
            "a score that depends on how the text is cut into windows or what else is in the batch",
            worst,
            self.bound_nats,
            "nats of one target",
            f"{self.places}: together and each alone, and read by 1 and by 7 tokens with the state carried",
        )

    def _losses(self, inputs_TB: Tensor, targets_TB: Tensor) -> Tensor:
        """nll (T, B) in the way of scoring."""
        # As `step_over`, which takes the targets from the text and could not be given others.
        split = getattr(self.model, "split_targets", None)
        extra = () if split is None or (made := split(targets_TB)) is None else (made,)
        state = self.model.initial_state(inputs_TB.shape[1])
        output = self.model(inputs_TB.to(self.device), targets_TB.to(self.device), state, *extra)
        return output.nll_TB.double()

    def _distributions(self, tokens_TB: Tensor) -> Iterator[Tensor]:
        """Log-probabilities (T, V) of each window, which are not given the last target."""
        h_TBH, _ = self.model.features(tokens_TB[:-1].to(self.device), self.model.initial_state(self.windows))
        for column in range(self.windows):
            yield self.model.log_probs(h_TBH[:, column])


def largest(values: Tensor) -> float:
    """Largest absolute value; infinite if one is not a number."""
    return float(values.abs().nan_to_num(nan=np.inf, posinf=np.inf).max())


def largest_difference(one: Tensor, other: Tensor) -> float:
    """Largest absolute difference; two infinities are equal."""
    one, other = one.double().cpu(), other.double().cpu()
    return largest(torch.where(one == other, 0.0, one - other))
