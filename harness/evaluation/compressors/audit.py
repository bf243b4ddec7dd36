"""Make the scores of a compressor again and compare: `harness audit` of its run. Imports torch with the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.core.errors import HarnessError
from harness.core.hashing import content_hash
from harness.core.messages import count
from harness.core.scores import Score
from harness.evaluation.audit.checks import Check, judge
from harness.evaluation.audit.report import Audit
from harness.evaluation.compressors.score import Compressor
from harness.system import source

_CATCHES = "a size that is not that of a file from which the text comes back, or that another library does not give"


def audit(compressor: Compressor, name: str, scores: Sequence[Score], made_with: Mapping[str, str]) -> Audit:
    """Code the text of each score again, decode it and compare bytes and sizes.

    Args:
        compressor: the method of the run, over its corpus.
        name: of the run.
        scores: of one split, at least one.
        made_with: versions of the libraries that made them.

    Returns:
        A check for each score.
    """
    checks = [_check(compressor, score, made_with) for score in scores]
    tally = scores[0].tally
    return Audit(
        checkpoint=name,
        checkpoint_sha256=content_hash(compressor.config.method),
        on=f"the {scores[0].split} split of {compressor.corpus.name}",
        protocol=", ".join(score.protocol.name for score in scores),
        num_targets=tally.num_targets,
        nll_nats=tally.nll_nats,
        num_coded=tally.num_targets,
        checks=tuple(checks),
        code=source.installed().to_json(),
    )


def _check(compressor: Compressor, score: Score, made_with: Mapping[str, str]) -> Check:
    assert score.coding is not None
    name = f"coder, {score.protocol.name}"
    try:
        again = compressor.score(score.split, score.protocol.name, (), lambda *_: lambda _: None)
    except HarnessError as error:
        return Check(name, _CATCHES, None, 0, "bits from the claim", False, str(error))
    assert again.coding is not None
    libraries = ", ".join(f"{key} {value}" for key, value in compressor.versions.items())
    other = (
        "" if dict(made_with) == compressor.versions else f", made with {', '.join(map(' '.join, made_with.items()))}"
    )
    detail = (
        f"{score.coding.num_bytes:,} bytes claimed{other}; {again.coding.num_bytes:,} now with {libraries}, "
        f"in {count(len(again.coding.files), 'file')}, from which the same bytes come back"
    )
    difference = abs(again.coding.num_bytes - score.coding.num_bytes)
    return judge(name, _CATCHES, 8.0 * difference, 0, "bits from the claim", detail)
