"""The protocol `prequential` of a model: untrained weights learn from the text while they code it, in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from harness.core.config.evaluation import PARTS, WHOLE, Adaptive
from harness.core.interfaces import LanguageModel, TextSizes
from harness.core.scores import Score
from harness.evaluation.adaptive.score import score_adapted
from harness.evaluation.protocols import OnStart


def score_prequential(
    model: LanguageModel,
    splits: Mapping[str, np.ndarray],
    adaptive: Adaptive,
    metrics: Sequence[str],
    *,
    tokens: TextSizes | None,
    on_start: OnStart,
) -> Score:
    """Score train, valid and test as one text by dynamic evaluation.

    Args:
        model: with its initial weights, which are restored.
        splits: ids (N,) by name.
        adaptive: one method with one setting.
        metrics: names in `METRICS`.
        tokens: text of the vocabulary; None if its tokens have no text.
        on_start: called before the pass.

    Returns:
        The score of `whole`.
    """
    ids = np.concatenate([splits[part] for part in PARTS])
    [score] = score_adapted(
        model, {WHOLE: ids}, adaptive, metrics, score=(WHOLE,), tokens=tokens, on_start=on_start
    )  # fmt: skip
    targets = f"{score.protocol.targets}; of train, valid and test as one text, from untrained weights"
    return replace(score, protocol=replace(score.protocol, name="prequential", targets=targets))
