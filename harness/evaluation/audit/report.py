"""Run all checks of an audit on a score: `harness audit`."""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass, replace

import numpy as np

from harness.core.errors import CheckpointError, DataError
from harness.core.interfaces import LoadedModel
from harness.evaluation.audit import counts, distributions
from harness.evaluation.audit.checks import Check
from harness.evaluation.coding import coder, rows
from harness.evaluation.protocols import module_of
from harness.evaluation.scoring import EvaluationRequest, protocol_of, score_text
from harness.system import source

# Of the coded length against the claim: the coder ends within two words, and its probabilities have 24 bits.
_SHARE, _BITS = 1e-3, 64


@dataclass(frozen=True, slots=True)
class Audit:
    """Checks of one score.

    Attributes:
        checkpoint: folder or name of the model.
        checkpoint_sha256: of its weights.
        on: the text, in words.
        protocol: of the score.
        num_targets: that were scored.
        nll_nats: their summed loss.
        num_coded: targets that were encoded and decoded.
        checks: in the order in which they ran.
        code: version and checksum of the harness.
    """

    checkpoint: str
    checkpoint_sha256: str
    on: str
    protocol: str
    num_targets: int
    nll_nats: float
    num_coded: int
    checks: tuple[Check, ...]
    code: dict[str, str]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, object]:
        """As `harness audit --json` prints it."""
        return {"passed": self.passed, **asdict(self)}


def audit(request: EvaluationRequest, *, stretch: int, tick: coder.Tick | None = None) -> Audit:
    """Score a checkpoint on a text and check the score.

    Args:
        request: model, text and protocol: `exact` or `streams`.
        stretch: number of targets, from the beginning of the text, to encode and decode.
        tick: called with the number of targets scored or coded since the last call.

    Returns:
        The checks and what they were made on.

    Raises:
        DataError: the protocol leaves targets out, or the text cannot be read.
        CheckpointError: the loss is not finite, or constriction is not installed.
    """
    if request.protocol == "official":
        raise DataError("the protocol official leaves targets out; audit exact or streams")
    rows.library()  # before minutes of scoring
    loaded = request.model
    # What the model may keep of the text while it is scored must not help to decode it.
    untouched = replace(loaded, model=copy.deepcopy(loaded.model))
    scored = score_text(request, tick=tick, keep_nll=True)
    assert scored.target_nll is not None
    ids = scored.text.ids
    module_of(loaded.model).eval()
    found = distributions.check(loaded.model, ids, len(loaded.vocabulary), loaded.dtype)
    found.append(counts.check(loaded, scored, protocol_of(request)))
    num_coded = min(stretch, len(ids) - 1)
    claimed = math.fsum(scored.target_nll[:num_coded]) / math.log(2)
    found.append(_coded(loaded, untouched, ids[: num_coded + 1], claimed, tick))
    return Audit(
        checkpoint=str(loaded.folder),
        checkpoint_sha256=loaded.sha256,
        on=scored.text.title,
        protocol=scored.score.protocol.name,
        num_targets=scored.score.tally.num_targets,
        nll_nats=scored.score.tally.nll_nats,
        num_coded=num_coded,
        checks=tuple(found),
        code=source.installed().to_json(),
    )


def _coded(
    loaded: LoadedModel, untouched: LoadedModel, ids: np.ndarray, claimed: float, tick: coder.Tick | None
) -> Check:
    """Encode and decode the tokens (N,), whose losses claim `claimed` bits."""
    bound = _SHARE * claimed + _BITS
    catches = "a score that is not the length of any file from which the text comes back"
    try:
        file = coder.encode(loaded, ids, tick=tick)
        bits = coder.payload_bits(file)
        decoded = coder.decode(untouched, file, tick=tick)
    except (CheckpointError, DataError) as error:
        return Check("coder", catches, None, bound, "bits from the claim", False, str(error))
    text, again = counts.text_of(loaded, ids), counts.text_of(loaded, decoded)
    same = text == again
    figure = abs(bits - claimed)
    what = "tokens" if loaded.reader is not None else "bytes"
    detail = (
        f"{len(ids) - 1:,} targets claim {claimed:,.1f} bits and take {bits:,} in a file of {len(file):,} bytes "
        f"with its header; {'the same' if same else 'other'} {what} come back"
    )
    return Check("coder", catches, figure, bound, "bits from the claim", same and figure <= bound, detail)
