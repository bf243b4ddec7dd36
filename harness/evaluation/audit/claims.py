"""The check that a record holds what its model scores."""

from __future__ import annotations

from dataclasses import replace

from harness.core.audits import Check
from harness.core.scores import Score
from harness.evaluation.audit.checks import judge

# Share of the nats. The same machine computes the same bits; another one sums in another order.
_SHARE, _SHARE_OF_16_BITS = 1e-5, 1e-3
_SHARE_ADAPTED = 1e-3  # each rounding moves the weights, and these all later losses


def check(claimed: Score, computed: Score, dtype: str) -> Check:
    """Compare a score of a record with the same score taken by the audit.

    Args:
        claimed: of the record.
        computed: by a model that was loaded for the audit.
        dtype: that the model computes in.

    Returns:
        The check `claim`; its figure is the difference of the nats, as a share of them.
    """
    ours, theirs = computed.tally, claimed.tally
    bound = _SHARE_OF_16_BITS if "16" in dtype else _SHARE if claimed.adaptation is None else _SHARE_ADAPTED
    figure = abs(theirs.nll_nats - ours.nll_nats) / max(1.0, abs(ours.nll_nats))
    where = ""
    # Rounding that moves the weights, or 16 bits, is too large over a block.
    if claimed.adaptation is None and "16" not in dtype and claimed.block_targets == computed.block_targets:
        pairs = enumerate(zip(claimed.block_nll_nats, computed.block_nll_nats, strict=True), start=1)
        block, of_block = max(
            ((number, abs(claim - sum_) / max(1.0, abs(sum_))) for number, (claim, sum_) in pairs),
            key=lambda each: each[1],
            default=(0, 0.0),
        )
        if of_block > max(figure, bound):
            figure, where = of_block, f"; most of block {block} of {claimed.block_targets:,} targets"
    # A record from before bytes were counted has no count of them.
    counts = [
        (name.removeprefix("num_"), getattr(theirs, name), getattr(ours, name))
        for name in ("num_targets", "num_units", "num_dropped", "num_bytes", "num_chars", "num_words")
        if getattr(theirs, name) is not None
    ]
    wrong = [f"; {name}: {claim:,} in the record, not {count}" for name, claim, count in counts if claim != count]
    made = judge(
        "claim",
        "a record that was changed, or a score of a model that knew more than its weights",
        figure,
        bound,
        "of the nats",
        f"{theirs.nll_nats:,.2f} nats in the record, {ours.nll_nats:,.2f} in the audit; {len(counts)} counts"
        + where
        + "".join(wrong[:1]),
    )
    return replace(made, passed=made.passed and not wrong)
