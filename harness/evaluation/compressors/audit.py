"""Make a score of a compressor again and compare."""

from __future__ import annotations

import time
from collections.abc import Mapping

from harness.core.audits import Check, ScoreAudit
from harness.core.errors import HarnessError
from harness.core.messages import count
from harness.core.scores import Score
from harness.evaluation.audit.checks import judge
from harness.evaluation.compressors.score import Compressor
from harness.system import source

_CATCHES = "a size that is not that of a file from which the text comes back, or that another library does not give"


def audit(compressor: Compressor, score: Score, made_with: Mapping[str, str]) -> ScoreAudit:
    """Code the text of a score again, decode it and compare bytes and sizes.

    Args:
        compressor: the method of the run, over its corpus.
        score: of the run.
        made_with: versions of the libraries that made it.

    Returns:
        One check, `coder`.
    """
    started = time.perf_counter()
    check = _check(compressor, score, made_with)
    return ScoreAudit(
        checks=(check,),
        num_coded=score.tally.num_targets,
        code=source.installed().to_json(),
        seconds=time.perf_counter() - started,
    )


def _check(compressor: Compressor, score: Score, made_with: Mapping[str, str]) -> Check:
    assert score.coding is not None
    unit = "bits from the claim"
    try:
        again = compressor.score(score.split, score.protocol.name, (), lambda *_: lambda _: None)
    except HarnessError as error:
        return Check("coder", _CATCHES, None, 0, unit, False, str(error))
    assert again.coding is not None
    files = count(len(again.coding.files), "file")
    other = "" if dict(made_with) == compressor.versions else f"; the record's were made with {_named(made_with)}"
    detail = (
        f"{score.coding.num_bytes:,} bytes in the record, {again.coding.num_bytes:,} when written again; the same "
        f"bytes come back from {files}; with {_named(compressor.versions)}{other}"
    )
    difference = abs(again.coding.num_bytes - score.coding.num_bytes)
    return judge("coder", _CATCHES, 8.0 * difference, 0, unit, detail)


def _named(versions: Mapping[str, str]) -> str:
    # Of some libraries Python does not say the version.
    return ", ".join(
        f"{name} {version}" if version[0].isdigit() else f"{name} of this Python" for name, version in versions.items()
    )
