"""Run all checks of an audit: of a checkpoint on a text, or of a score that a record holds."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace

from harness.core.audits import Check, ScoreAudit
from harness.core.errors import CheckpointError, DataError
from harness.core.interfaces import LanguageModel, LoadedModel
from harness.core.scores import EvaluationProtocol, Score
from harness.evaluation import protocols
from harness.evaluation.adaptive.methods import Method
from harness.evaluation.audit import adapted, claims, counts, distributions
from harness.evaluation.audit.sealed import Sealed
from harness.evaluation.coding import coder, rows
from harness.evaluation.protocols import module_of
from harness.evaluation.scoring import EvaluationRequest, ScoredText, TextSource, protocol_of, score_text
from harness.evaluation.token_text import TokenText
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


def audit(request: EvaluationRequest, *, stretch: int, on_start: protocols.OnStart = protocols.ignore_start) -> Audit:
    """Score a checkpoint on a text and check the score.

    Args:
        request: model, text and protocol: `exact` or `streams`.
        stretch: number of targets, from the beginning of the text, to encode and decode.
        on_start: called with the number of targets to score and to code; may return a tick.

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
    untouched = replace(loaded, model=copy.deepcopy(loaded.model))
    tick: protocols.Tick | None = None

    def begin(split: str, protocol: str, num_targets: int) -> protocols.Tick | None:
        nonlocal tick
        tick = on_start(split, protocol, num_targets + 2 * min(stretch, num_targets))
        return tick

    scored = score_text(request, on_start=begin, keep_nll=True)
    files = request.text if request.file is None else request.file.path
    split = None if request.corpus is None else request.corpus.splits[request.split]
    sealed = Sealed([path for path in (files, getattr(split, "filename", None)) if path is not None])
    found = _static(_Scored(loaded, untouched, scored, stretch, tick), protocol_of(request), sealed)
    return Audit(
        checkpoint=str(loaded.folder),
        checkpoint_sha256=loaded.sha256,
        on=scored.text.title,
        protocol=scored.score.protocol.name,
        num_targets=scored.score.tally.num_targets,
        nll_nats=scored.score.tally.nll_nats,
        num_coded=min(stretch, len(scored.text.ids) - 1),
        checks=tuple(found),
        code=source.installed().to_json(),
    )


def audit_score(
    loaded: LoadedModel,
    claimed: Score,
    text: TextSource,
    *,
    how: EvaluationProtocol | Method,
    stretch: int,
    sealed: Sealed,
    tick: coder.Tick | None = None,
) -> ScoreAudit:
    """Take a score of a record again, and check it.

    Args:
        loaded: the model, from its weights alone and without a text read yet.
        claimed: the score; `official` has no audit.
        text: of its split, in the model's tokens.
        how: the protocol as the run's suite has it, or the adaptive one, prepared, on a copy of the model.
        stretch: number of targets, from the beginning of the text, to encode and decode.
        sealed: the text's files; it may have been entered while the model was built.
        tick: called with the number of targets scored or coded since the last call.

    Raises:
        CheckpointError: constriction is not installed.
    """
    started = time.perf_counter()
    rows.library()
    # What a model keeps of one score must not help it with the next, nor to decode.
    model, untouched, other = loaded, loaded, how
    if isinstance(how, Method):
        other = copy.deepcopy(how)
    else:
        model, untouched = (replace(loaded, model=copy.deepcopy(loaded.model)) for _ in range(2))
    setting = None if claimed.adaptation is None else claimed.adaptation["chosen"]
    with sealed:
        if isinstance(how, Method):
            assert setting is not None
            protocol = how.protocol
            scored = how.score(text.ids, setting, tick, keep_nll=True)
        else:
            protocol = how
            scored = protocols.score(model.model, text.ids, protocol, tick=tick, keep_nll=True)
    size = protocols.measure(text.ids, protocol, text.read or TokenText.of(loaded.vocabulary, loaded.unit))
    score = protocols.to_score(scored, claimed.split, protocol, (), 0.0, size)
    made = _Scored(model, untouched, ScoredText(score, text, scored.target_nll), stretch, tick)
    if isinstance(how, Method):
        assert isinstance(other, Method)
        assert setting is not None
        with sealed:
            found = adapted.check(how, setting, text.ids, len(loaded.vocabulary), loaded.dtype)
            found.append(counts.check(loaded, made.scored, None))
            found.append(made.coded(lambda: how.by_token(setting), lambda: other.by_token(setting)))
        found.append(sealed.check())
    else:
        found = _static(made, protocol, sealed)
    found.insert(0, claims.check(claimed, score, loaded.dtype))
    return ScoreAudit(
        checks=tuple(found),
        num_coded=min(stretch, len(text.ids) - 1),
        code=source.installed().to_json(),
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True, slots=True)
class _Scored:
    """A score with the model that made it, and a copy that was made before."""

    loaded: LoadedModel
    untouched: LoadedModel
    scored: ScoredText
    stretch: int
    tick: coder.Tick | None

    def coded(
        self,
        encoding: Callable[[], AbstractContextManager[LanguageModel]],
        decoding: Callable[[], AbstractContextManager[LanguageModel]],
    ) -> Check:
        """Encode and decode the stretch, each with a model of its own."""
        losses, num_coded = self.scored.target_nll, min(self.stretch, len(self.scored.text.ids) - 1)
        assert losses is not None
        ids, claimed = self.scored.text.ids[: num_coded + 1], math.fsum(losses[:num_coded]) / math.log(2)
        bound = _SHARE * claimed + _BITS
        catches = "a score that is not the length of any file from which the text comes back"
        try:
            with encoding() as model:
                file = coder.encode(replace(self.loaded, model=model), ids, tick=self.tick)
            bits = coder.payload_bits(file)
            with decoding() as model:
                decoded = coder.decode(replace(self.untouched, model=model), file, tick=self.tick)
        # The coder's library raises AssertionError where the decoder's model gives the file no meaning.
        except (CheckpointError, DataError, AssertionError) as error:
            return Check("coder", catches, None, bound, "bits from the claim", False, str(error))
        same = counts.text_of(self.loaded, ids) == counts.text_of(self.loaded, decoded)
        figure = abs(bits - claimed)
        what = "bytes" if self.scored.text.read is None else "tokens"
        detail = (
            f"{len(ids) - 1:,} targets claim {claimed:,.1f} bits and take {bits:,} in a file of {len(file):,} bytes "
            f"with its header; {'the same' if same else 'other'} {what} come back"
        )
        return Check("coder", catches, figure, bound, "bits from the claim", same and figure <= bound, detail)


def _static(made: _Scored, protocol: EvaluationProtocol, sealed: Sealed) -> list[Check]:
    """All checks of a static score but `claim`."""
    model, ids = made.loaded.model, made.scored.text.ids
    module_of(model).eval()
    with sealed:
        found = distributions.check(model, ids, len(made.loaded.vocabulary), made.loaded.dtype)
        found.append(counts.check(made.loaded, made.scored, protocol))
        found.append(made.coded(lambda: nullcontext(model), lambda: nullcontext(made.untouched.model)))
    return [*found, sealed.check()]
