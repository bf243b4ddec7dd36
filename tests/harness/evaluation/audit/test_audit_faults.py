"""Models that claim impossible scores, each caught by name; and honest ones, which pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import harness
from harness.evaluation.audit.distributions import check, sample_windows
from harness.evaluation.audit.report import Audit
from lm_models.plugin.adapter import Adapter

pytest.importorskip("constriction", reason="the extra audit is not installed")

VOCABULARY = [chr(97 + number) for number in range(12)]


class Honest(harness.Model):
    """The likelihood of a token after the one before it and a mean of those before that."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.logits = nn.Embedding(vocab_size, vocab_size)

    def initial_state(self, batch: int) -> Tensor:
        return torch.zeros(1, batch, self.logits.embedding_dim)

    def raw(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        rows = []
        for x_BV in self.logits(tokens_TB):
            state = 0.5 * state + x_BV
            rows.append(state[0])
        return torch.stack(rows), state

    def forward(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        logits_TBV, state = self.raw(tokens_TB, state)
        return torch.log_softmax(logits_TBV, -1), state


class Windowed(Honest):
    """Without state: a window of context slides over the text."""

    context, stride = 16, 8

    def forward(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        logits_TBV, _ = self.raw(tokens_TB, self.initial_state(tokens_TB.shape[1]))
        return torch.log_softmax(logits_TBV, -1), state


class Unnormalised(Honest):
    """Probabilities that sum to 1.1."""

    def forward(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        log_probs_TBV, state = super().forward(tokens_TB, state)
        return log_probs_TBV + math.log(1.1), state


class LooksAhead(Honest):
    """Knows the next input of its window."""

    def forward(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        logits_TBV, state = self.raw(tokens_TB, state)
        known_TBV = 4.0 * functional.one_hot(tokens_TB[1:], logits_TBV.shape[-1])
        return torch.log_softmax(torch.cat([logits_TBV[:-1] + known_TBV, logits_TBV[-1:]]), -1), state


class Centred(Honest):
    """Subtracts a mean over the time of its window, as batch normalisation does."""

    def forward(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        logits_TBV, state = self.raw(tokens_TB, state)
        return torch.log_softmax(logits_TBV - logits_TBV.mean(0, keepdim=True), -1), state


class Batched(Honest):
    """Subtracts a mean over the batch."""

    def forward(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        logits_TBV, state = self.raw(tokens_TB, state)
        return torch.log_softmax(logits_TBV - logits_TBV.mean(1, keepdim=True), -1), state


class LeaksTarget(Honest):
    """A loss whose logits got the target; the distribution that it uses is one."""

    def nll(self, tokens_TB: Tensor, targets_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        logits_TBV, state = self.raw(tokens_TB, state)
        leaked_TBV = logits_TBV + functional.one_hot(targets_TB, logits_TBV.shape[-1])
        return functional.cross_entropy(leaked_TBV.flatten(0, 1), targets_TB.flatten(), reduction="none").view(
            targets_TB.shape
        ), state


class Changed(Honest):
    """A loss that is not -ln p."""

    def change(self, nll_TB: Tensor) -> Tensor:
        raise NotImplementedError

    def nll(self, tokens_TB: Tensor, targets_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        nll_TB, state = super().nll(tokens_TB, targets_TB, state)
        return self.change(nll_TB), state


class OtherUnit(Changed):
    def change(self, nll_TB: Tensor) -> Tensor:
        return nll_TB * math.log(2)


class OnlyEasy(Changed):
    def change(self, nll_TB: Tensor) -> Tensor:
        return torch.where(nll_TB > 3, 0.0, nll_TB)


class CoolTarget(Changed):
    """A temperature on the target alone."""

    def change(self, nll_TB: Tensor) -> Tensor:
        return nll_TB * 0.9


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


def audited(model: harness.Model, folder: Path, num_tokens: int = 700) -> Audit:
    ids = torch.randint(len(VOCABULARY), (num_tokens,), generator=torch.Generator().manual_seed(1)).tolist()
    (folder / "text").write_text("".join(VOCABULARY[each] for each in ids))
    return harness.audit(model.eval(), text=folder / "text", vocabulary=VOCABULARY, stretch=600, device="cpu")


def failed(audit: Audit) -> set[str]:
    return {check.name for check in audit.checks if not check.passed}


@pytest.mark.parametrize("kind", [Honest, Windowed])
@pytest.mark.parametrize("seed", range(3))
def test_an_honest_model_passes(kind: type[harness.Model], seed: int, tmp_path: Path) -> None:
    torch.manual_seed(seed)
    audit = audited(kind(len(VOCABULARY)), tmp_path)
    assert failed(audit) == set()
    assert audit.passed
    assert (audit.num_targets, audit.num_coded) == (699, 600)


@pytest.mark.parametrize(
    ("kind", "by"),
    [
        (Unnormalised, {"mass", "coder"}),
        (LooksAhead, {"causality", "invariance", "coder"}),
        (Centred, {"causality", "invariance", "coder"}),
        (Batched, {"invariance"}),
        (LeaksTarget, {"loss", "coder"}),
        (OtherUnit, {"loss", "coder"}),
        (OnlyEasy, {"loss", "coder"}),
        (CoolTarget, {"loss", "coder"}),
    ],
)
def test_a_cheat_is_caught_by_its_checks(kind: type[harness.Model], by: set[str], tmp_path: Path) -> None:
    audit = audited(kind(len(VOCABULARY)), tmp_path)
    assert by <= failed(audit), [(check.name, check.figure, check.detail) for check in audit.checks]
    assert "exactly once" not in failed(audit)
    assert not audit.passed


def test_windows_are_read_token_by_token_and_by_seven() -> None:
    """A model that is wrong in windows of one token alone, or of seven alone, is caught."""
    for length in (1, 7):

        class WrongAt(Honest):
            def forward(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
                log_probs_TBV, state = super().forward(tokens_TB, state)
                return log_probs_TBV.roll(1, -1) if len(tokens_TB) == length else log_probs_TBV, state  # noqa: B023

        checks = check(Adapter(WrongAt(12)).eval(), np.arange(300) % 12, 12, "float32")
        assert [each.passed for each in checks] == [True, True, True, False]


def test_a_figure_is_what_was_planted(tmp_path: Path) -> None:
    checks = {check.name: check for check in audited(Unnormalised(len(VOCABULARY)), tmp_path).checks}
    assert checks["mass"].figure == pytest.approx(0.1, abs=1e-5)
    # Each of 600 targets claims log2 1.1 bits too few.
    assert checks["coder"].figure == pytest.approx(600 * math.log2(1.1), abs=64)


def test_a_text_of_two_tokens_is_audited(tmp_path: Path) -> None:
    assert audited(Honest(len(VOCABULARY)), tmp_path, 2).passed
