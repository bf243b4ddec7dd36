"""An adapted score beside the static one of the same text, block by block: most of their spread is common to both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.core.hashing import finite_or_none
from harness.core.scores import Score, Tally
from harness.evaluation.protocols import Scored, rate_std_error


def beside_static(adapted: Scored, split: str, static: Sequence[Score]) -> dict[str, Any]:
    """The mean difference in nats per target, adapted less static, with the standard error of the paired blocks.

    static: scores of the same model; the first of this split with the same blocks is compared with. Null with a
    reason where there is none; the standard error is null too where there are fewer than two whole blocks.
    """
    for score in static:
        same = score.split == split and score.tally.num_targets == adapted.tally.num_targets
        if same and score.block_targets == adapted.block_targets:
            return _paired(adapted, score)
    reason = f"no static score of {split} has the same targets and blocks"
    return {"protocol": None, "difference_nats": None, "std_error_nats": None, "reason": reason}


def _paired(adapted: Scored, static: Score) -> dict[str, Any]:
    differences = np.asarray(adapted.block_nll_nats) - np.asarray(static.block_nll_nats)
    num_targets = adapted.tally.num_targets
    total = adapted.tally.nll_nats - static.tally.nll_nats
    paired = Scored(Tally(total, num_targets, num_targets, 0), adapted.block_targets, differences.tolist())
    return {
        "protocol": static.protocol.name,
        "difference_nats": finite_or_none(total / num_targets),
        "std_error_nats": finite_or_none(rate_std_error(paired)),
        "reason": None,
    }
