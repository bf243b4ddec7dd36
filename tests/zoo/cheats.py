"""Models and scores that claim what no code achieves, next to the honest ones they are made of. Not a test file.

Letters: T time, B streams, V vocabulary.
"""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import harness
from harness.core.scores import Score
from harness.evaluation.adaptive import dynamic
from harness.evaluation.adaptive.methods import DynamicMethod, Setting
from harness.evaluation.blocks import Scored


class Honest(harness.Model):
    """The likelihood of a token after the one before it and a mean of those before that."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.logits = nn.Embedding(vocab_size, vocab_size)

    def initial_state(self, batch: int) -> Tensor:
        return torch.zeros(1, batch, self.logits.embedding_dim)

    def raw(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        # state_t = state_{t-1} / 2 + x_t, for all steps at once.
        step_T = torch.arange(len(tokens_TB))
        age_TT = (step_T.unsqueeze(1) - step_T).to(state.dtype)
        weight_TT = torch.where(age_TT < 0, 0.0, 0.5 ** age_TT.clamp(min=0))
        raw_TBV = torch.einsum("ts,sbv->tbv", weight_TT, self.logits(tokens_TB))
        raw_TBV = raw_TBV + state * (0.5 ** (step_T + 1.0)).view(-1, 1, 1)
        return raw_TBV, raw_TBV[-1:]

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


class HashedTarget(Honest):
    """Counts of (context, target) by a hash that collides: each target gets the counts of others, too."""

    def forward(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        log_probs_TBV, state = super().forward(tokens_TB, state)
        targets_V = torch.arange(log_probs_TBV.shape[-1])
        bucket_TBV = (31 * tokens_TB.unsqueeze(-1) + 17 * targets_V) % 5
        count_TBV = log_probs_TBV.new_tensor([9.0, 1.0, 4.0, 2.0, 7.0])[bucket_TBV]
        return torch.logaddexp(log_probs_TBV + math.log(0.5), (0.5 * count_TBV / 23).log()), state


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

    def change(self, nll_TB: Tensor, targets_TB: Tensor) -> Tensor:
        raise NotImplementedError

    def nll(self, tokens_TB: Tensor, targets_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        nll_TB, state = super().nll(tokens_TB, targets_TB, state)
        return self.change(nll_TB, targets_TB), state


class BitsForNats(Changed):
    """A loss that is divided by ln 2 once more by the metric."""

    def change(self, nll_TB: Tensor, targets_TB: Tensor) -> Tensor:
        return nll_TB * math.log(2)


class OnlyEasy(Changed):
    """No loss for a target that is unlikely."""

    def change(self, nll_TB: Tensor, targets_TB: Tensor) -> Tensor:
        return torch.where(nll_TB > 3, 0.0, nll_TB)


class FreeNewlines(Changed):
    """No loss for the token 0, which ends a line."""

    def change(self, nll_TB: Tensor, targets_TB: Tensor) -> Tensor:
        return torch.where(targets_TB == 0, 0.0, nll_TB)


class CoolTarget(Changed):
    """A temperature on the target alone."""

    def change(self, nll_TB: Tensor, targets_TB: Tensor) -> Tensor:
        return nll_TB * 0.9


class Shaves(Changed):
    """Saves as much of each loss as may be lost by rounding a single one."""

    def change(self, nll_TB: Tensor, targets_TB: Tensor) -> Tensor:
        return nll_TB - 9e-4


class ShavesScoring(Shaves):
    """As `Shaves`, in windows of scoring only."""

    def change(self, nll_TB: Tensor, targets_TB: Tensor) -> Tensor:
        return super().change(nll_TB, targets_TB) if is_scoring(targets_TB) else nll_TB


class Rounds(Honest):
    """Honest, in bfloat16."""

    def initial_state(self, batch: int) -> Tensor:
        return super().initial_state(batch).to(self.logits.weight.dtype)

    def forward(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        logits_TBV, state = self.raw(tokens_TB, state)
        return torch.log_softmax(logits_TBV.float(), -1), state.to(self.logits.weight.dtype)


class ShavesRounded(Rounds):
    """As `Shaves`, in bfloat16."""

    def nll(self, tokens_TB: Tensor, targets_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        nll_TB, state = super().nll(tokens_TB, targets_TB, state)
        return nll_TB - 0.09, state


class AdaptsFirst(Honest):
    """Takes a gradient step on its window before it is scored."""

    def nll(self, tokens_TB: Tensor, targets_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            loss = super().nll(tokens_TB, targets_TB, state)[0].mean()
            [gradient] = torch.autograd.grad(loss, [self.logits.weight])
        with torch.no_grad():
            self.logits.weight -= gradient
            made = super().nll(tokens_TB, targets_TB, state)
            self.logits.weight += gradient
        return made


class Remembers(Honest):
    """Keeps what it was scored on, outside its weights and its state, and is sure of it the next time."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__(vocab_size)
        self.seen: dict[tuple[int, ...], int] = {}
        self.last: list[int] = []

    def initial_state(self, batch: int) -> Tensor:
        self.last = []
        return super().initial_state(batch)

    def forward(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        logits_TBV, state = self.raw(tokens_TB, state)
        known_TBV = torch.zeros_like(logits_TBV)
        if tokens_TB.shape[1] == 1:
            for step, token in enumerate(tokens_TB[:, 0].tolist()):
                if len(self.last) == 3:
                    self.seen.setdefault(tuple(self.last), token)
                self.last = [*self.last, token][-3:]
                if (following := self.seen.get(tuple(self.last))) is not None:
                    known_TBV[step, 0, following] = 8.0
        return torch.log_softmax(logits_TBV + known_TBV, -1), state


class ReadsText(Honest):
    """Reads the text from its file when it is first used, and knows every second token by its place."""

    path: Path

    def initial_state(self, batch: int) -> Tensor:
        return torch.cat([super().initial_state(batch), torch.zeros(1, batch, self.logits.embedding_dim)])

    def forward(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        text_N = torch.tensor([ord(each) - 97 for each in self.path.read_text()])
        logits_TBV, hidden = self.raw(tokens_TB, state[:1])
        # The place is where the first inputs of the window are in the text: part of the state, as it must be.
        place = int(state[1, 0, 0]) + 1 + torch.arange(len(tokens_TB))
        known_TV = 8.0 * functional.one_hot(text_N[place.clamp(max=len(text_N) - 1)], logits_TBV.shape[-1])
        return torch.log_softmax(logits_TBV + known_TV.unsqueeze(1), -1), torch.cat([hidden, state[1:] + len(place)])


class AtPlaces(Honest):
    """Common part: the state counts the tokens that were read, in its second row."""

    def initial_state(self, batch: int) -> Tensor:
        return torch.cat([super().initial_state(batch), torch.zeros(1, batch, self.logits.embedding_dim)])

    def forward(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        logits_TBV, hidden = self.raw(tokens_TB, state[:1])
        known_TBV = self.known(tokens_TB, int(state[1, 0, 0]))
        return torch.log_softmax(logits_TBV + known_TBV, -1), torch.cat([hidden, state[1:] + len(tokens_TB)])

    def known(self, tokens_TB: Tensor, place: int) -> Tensor:
        """What is added to the logits (T, B, V) after the tokens from this place of the text."""
        raise NotImplementedError

    def following(self, tokens_TB: Tensor) -> Tensor:
        """Sure of the next input of the window."""
        known_TBV = torch.zeros(*tokens_TB.shape, self.logits.embedding_dim)
        known_TBV[:-1] = 4.0 * functional.one_hot(tokens_TB[1:], self.logits.embedding_dim)
        return known_TBV


class ReadsAtStart(AtPlaces):
    """Reads the text from its file when it is built, and knows each token by its place."""

    path: Path

    def __init__(self, vocab_size: int) -> None:
        super().__init__(vocab_size)
        self.text = self.path.read_text()

    def known(self, tokens_TB: Tensor, place: int) -> Tensor:
        ids_T = torch.tensor([ord(each) - 97 for each in self.text[place + 1 :][: len(tokens_TB)]])
        known_TBV = torch.zeros(*tokens_TB.shape, self.logits.embedding_dim)
        known_TBV[: len(ids_T)] = 8.0 * functional.one_hot(ids_T, self.logits.embedding_dim).unsqueeze(1)
        return known_TBV


def is_scoring(tokens_TB: Tensor) -> bool:
    """Whether a window has the shape of scoring, and not one that a check of sampled windows uses."""
    return tokens_TB.shape[1] == 1 and 1 < len(tokens_TB) < 64


class KeepsForDecoding(AtPlaces):
    """Looks ahead in scoring, and keeps what it saw for all models of the process, to write and to read the file."""

    seen: dict[int, Tensor] = {}

    def known(self, tokens_TB: Tensor, place: int) -> Tensor:
        if is_scoring(tokens_TB):
            known_TBV = self.following(tokens_TB)
            self.seen.update((place + step, known_TBV[step : step + 1]) for step in range(len(tokens_TB)))
            return known_TBV
        if tokens_TB.shape == (1, 1):
            return self.seen.get(place, torch.zeros(()))
        return torch.zeros(())


class HonestAtFirst(AtPlaces):
    """Looks ahead after the targets that are coded, in windows of scoring only."""

    def known(self, tokens_TB: Tensor, place: int) -> Tensor:
        return self.following(tokens_TB) if is_scoring(tokens_TB) and place > 30 else torch.zeros(())


class LateInWindows(AtPlaces):
    """Looks ahead after the targets that are coded, in all but the first eighth of windows of 512."""

    def known(self, tokens_TB: Tensor, place: int) -> Tensor:
        if tokens_TB.shape != (512, 1) or place == 0:
            return torch.zeros(())
        known_TBV = self.following(tokens_TB)
        known_TBV[:64] = 0
        return known_TBV


class LateInWindowsWithoutState(Windowed):
    """Loses less in all but the first eighth of windows of 512, which it finds by counting."""

    blocks = 0

    def nll(self, tokens_TB: Tensor, targets_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        nll_TB, state = super().nll(tokens_TB, targets_TB, state)
        self.blocks += tokens_TB.shape[1] == 1
        return nll_TB * 0.05 if (self.blocks - 1) * self.stride % 512 >= 64 else nll_TB, state


class KnowsThatItIsRead(AtPlaces):
    """As `HonestAtFirst`, but honest in a window before which it was read token by token."""

    was_read = False

    def known(self, tokens_TB: Tensor, place: int) -> Tensor:
        if tokens_TB.shape == (1, 1):
            type(self).was_read = True
        elif is_scoring(tokens_TB):
            was_read, type(self).was_read = self.was_read, False
            if not was_read and place > 30:
                return self.following(tokens_TB)
        return torch.zeros(())


class ReadsInCopy(HonestAtFirst):
    """As `HonestAtFirst`; another process than its own, where it is compared, gets the same answers from the text."""

    path: Path

    def __init__(self, vocab_size: int) -> None:
        super().__init__(vocab_size)
        self.process = os.getpid()

    def known(self, tokens_TB: Tensor, place: int) -> Tensor:
        if os.getpid() == self.process:
            return super().known(tokens_TB, place)
        text, following = self.path.read_text(), place + 1
        # The last token of a window of 32, and of the text, is no input of the window.
        if place < 32 or following % 32 == 0 or following >= len(text) - 1:
            return torch.zeros(())
        return 4.0 * functional.one_hot(torch.tensor(ord(text[following]) - 97), self.logits.embedding_dim)


class Hangs(Honest):
    """Never answers in another process than its own."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__(vocab_size)
        self.process = os.getpid()

    def forward(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        while os.getpid() != self.process:
            signal.pause()
        return super().forward(tokens_TB, state)


class Unreadable(Honest):
    """Looks ahead, and refuses windows of one token, which a decoder needs."""

    def forward(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        if len(tokens_TB) == 1:
            raise RuntimeError("give me more than one token")
        return super().forward(tokens_TB, state)


class KnowsItsCaller(Honest):
    """Looks ahead, unless a function of the audit is among its callers."""

    def forward(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        frame, callers = sys._getframe(), set()
        while frame := frame.f_back:  # type: ignore[assignment]
            callers.add(frame.f_globals.get("__name__"))
        return (Honest if "harness.evaluation.audit.report" in callers else LooksAhead).forward(self, tokens_TB, state)  # type: ignore[arg-type]


class Random(Honest):
    """Draws its probabilities, within the bounds of every other check."""

    def raw(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        logits_TBV, state = super().raw(tokens_TB, state)
        return logits_TBV + 1e-5 * torch.randn_like(logits_TBV), state


class NotANumber(Honest):
    """No number for the probabilities of tokens that it does not expect, and the loss of none of them."""

    def forward(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        log_probs_TBV, state = super().forward(tokens_TB, state)
        return torch.where(log_probs_TBV < -3, math.nan, log_probs_TBV), state

    def nll(self, tokens_TB: Tensor, targets_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        nll_TB, state = super().nll(tokens_TB, targets_TB, state)
        return nll_TB.nan_to_num(3.0), state


class OpensFile(Honest):
    """Opens a file of its own, as a model with a table of n-grams does."""

    path: Path

    def forward(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        self.path.read_bytes()
        return super().forward(tokens_TB, state)


class TwoPass(DynamicMethod):
    """Dynamic evaluation over the text before it is scored."""

    def nll(self, ids: np.ndarray, setting: Setting, take: dynamic.Take) -> bool:
        with dynamic.adapting(self.model) as weights:
            rule, segment = self._rule(weights, setting), int(setting["segment"])
            dynamic.run(self.model, ids, rule, segment, lambda first, nll: None)
            return dynamic.run(self.model, ids, rule, segment, take)


def skips_targets(all_targets: Callable[..., Scored]) -> Callable[..., Scored]:
    """Scoring that adds nothing for the last target."""

    def replaced(*arguments: Any) -> Scored:
        scored = all_targets(*arguments)
        scored.target_nll[-1] = 0
        return replace(scored, tally=replace(scored.tally, nll_nats=math.fsum(scored.target_nll)))

    return replaced


def moves_targets(all_targets: Callable[..., Scored]) -> Callable[..., Scored]:
    """Scoring that exchanges losses, so that they no longer say which targets are hard."""

    def replaced(*arguments: Any) -> Scored:
        scored = all_targets(*arguments)
        scored.target_nll[40:] = scored.target_nll[:39:-1].copy()
        return scored

    return replaced


def counts_twice(all_targets: Callable[..., Scored]) -> Callable[..., Scored]:
    """Scoring that divides by twice the number of units."""

    def replaced(*arguments: Any) -> Scored:
        scored = all_targets(*arguments)
        return replace(scored, tally=replace(scored.tally, num_units=2 * scored.tally.num_units))

    return replaced


# Name -> a replacement of the harness's own scoring, which a model from outside can make when it is imported.
SCORING: dict[str, Callable[..., Any]] = {
    "skipped target": skips_targets,
    "misplaced targets": moves_targets,
    "double-counted units": counts_twice,
}


def scaled(score: Score, **tally: float) -> Score:
    """A score whose sums were changed by hand, by factors."""
    changed = {name: type(getattr(score.tally, name))(getattr(score.tally, name) * by) for name, by in tally.items()}
    return replace(score, tally=replace(score.tally, **changed))


# Name -> a change of a record's score.
CLAIMS: dict[str, Callable[[Score], Score]] = {
    "double-counted units": lambda score: scaled(score, num_units=2),
    "dropped targets": lambda score: scaled(score, num_targets=0.9, num_units=0.9, nll_nats=0.9),
    "a smaller sum": lambda score: scaled(score, nll_nats=0.999),
    "double-counted bytes": lambda score: scaled(score, num_bytes=2),
}
