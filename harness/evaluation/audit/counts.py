"""The check that each target of a text is scored once, and that the tally counts what the text holds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from harness.core.audits import Check
from harness.core.interfaces import LoadedModel
from harness.core.scores import EvaluationProtocol
from harness.core.units import BYTE, EOS
from harness.evaluation import protocols
from harness.evaluation.audit.checks import judge
from harness.evaluation.scoring import ScoredText
from harness.evaluation.token_text import TokenText
from harness.evaluation.tokenizer import Tokens
from lm_models.step import State, StepOutput


class _KnownLosses(nn.Module):
    """A model whose loss of a token is known: scoring with it shows which targets are counted, and how often."""

    generator: torch.Generator | None = None
    loss_V: Tensor

    def __init__(self, loss_V: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("loss_V", torch.from_numpy(loss_V))

    def initial_state(self, batch: int) -> State:
        return self.loss_V.new_zeros(1, batch, 1)

    def forward(self, inputs_TB: Tensor, targets_TB: Tensor, state: State) -> StepOutput:
        return StepOutput(self.loss_V[targets_TB.long()], state, self.loss_V.new_zeros(()))


def check(model: LoadedModel, scored: ScoredText, protocol: EvaluationProtocol | None) -> Check:
    """Compare a tally with the text, counted again.

    Args:
        model: whose vocabulary the text has.
        scored: the score, with the loss of each target.
        protocol: it was taken under: `exact` or `streams`; None for an adaptive one, whose losses are not scored
            again with known ones.

    Returns:
        The check; its figure is the largest relative difference of a count or a sum.
    """
    ids, tally, losses = scored.text.ids, scored.score.tally, scored.target_nll
    assert losses is not None
    num_targets = len(ids) - 1
    added = 0 if scored.text.read is None else scored.text.read.num_added
    pairs: list[tuple[str, float, float]] = [
        ("targets", tally.num_targets, num_targets),
        ("units", tally.num_units, num_targets),
        ("tokens not predicted", tally.num_dropped, 1 - added),
        ("kept losses", len(losses), num_targets),
        ("sum of the losses", tally.nll_nats, math.fsum(losses)),
    ]
    if protocol is not None:
        loss_V = 1 + np.random.default_rng(0).random(len(model.vocabulary))
        known = protocols.score(_KnownLosses(loss_V), ids, protocol, keep_nll=True)  # type: ignore[arg-type]
        assert known.target_nll is not None
        expected_N = loss_V[ids[1:]]
        pairs += [
            ("sum of known losses", known.tally.nll_nats, math.fsum(expected_N)),
            ("targets in their place", int((known.target_nll == expected_N).sum()), num_targets),
        ]
    if tally.num_bytes is not None and scored.text.read is None:
        pairs.append(("bytes", tally.num_bytes, len(text_of(model, ids)) - len(text_of(model, ids[:1]))))
    name, worst = "", 0.0
    for each, counted, expected in pairs:
        difference = abs(counted - expected) / max(1.0, abs(expected))
        if not difference <= worst:
            name, worst = f"; {each}: {counted:,} in the tally, {expected:,} in the text", difference
    return judge(
        "exactly once",
        "targets that are left out, counted twice or divided by the wrong number",
        worst,
        1e-9,  # sums of float64 in another order
        "relative difference",
        f"{len(pairs)} counts and sums of {num_targets:,} targets{name if worst > 1e-9 else ''}",
    )


def text_of(model: LoadedModel, ids: Sequence[int] | np.ndarray) -> bytes:
    """Bytes of tokens from the beginning of a text, by the vocabulary; of the ids themselves if it has no text."""
    if model.reader is not None or TokenText.of(model.vocabulary, model.unit) is None:
        return np.asarray(ids).astype("<u4").tobytes()
    if model.unit == BYTE:
        return bytes(10 if model.vocabulary[each] == EOS else int(model.vocabulary[each]) for each in ids)
    decode = Tokens.of(model.vocabulary, model.unit).decoder()
    return "".join(decode(int(each)) for each in ids).encode("utf-8", "surrogatepass")
