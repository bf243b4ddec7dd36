"""Run all checks of an audit: of a checkpoint on a text, or of a score that a record holds."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from harness.core.audits import Check, ScoreAudit
from harness.core.errors import DataError
from harness.core.interfaces import Corpus, LanguageModel, LoadedModel, SplitFile
from harness.core.messages import crash
from harness.core.scores import EvaluationProtocol, Score
from harness.evaluation import protocols
from harness.evaluation.adaptive.methods import Method
from harness.evaluation.audit import adapted, claims, copies, counts, distributions
from harness.evaluation.audit.checks import Guard, failing
from harness.evaluation.audit.places import Places
from harness.evaluation.audit.sealed import Sealed
from harness.evaluation.blocks import Scored
from harness.evaluation.coding import coder, rows
from harness.evaluation.protocols import module_of
from harness.evaluation.scoring import EvaluationRequest, ScoredText, TextSource, protocol_of, read_text, score_text
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


def files_of(
    *, text: Path | None = None, file: SplitFile | None = None, corpus: Corpus | None = None, split: str, **_: object
) -> list[Path]:
    """The files of a text, by the arguments of its `EvaluationRequest`."""
    ids = None if corpus is None else getattr(corpus.splits[split], "filename", None)
    return [Path(path) for path in (text, None if file is None else file.path, ids) if path is not None]


def audit(
    request: EvaluationRequest,
    *,
    stretch: int,
    on_start: protocols.OnStart = protocols.ignore_start,
    sealed: Sealed | None = None,
) -> Audit:
    """Score a checkpoint on a text and check the score.

    Args:
        request: model, text and protocol: `exact` or `streams`.
        stretch: number of targets, from the beginning of the text, to encode and decode.
        on_start: called with the number of targets to score and to code; may return a tick.
        sealed: the text's files, if it was entered while the model was loaded.

    Returns:
        The checks and what they were made on.

    Raises:
        DataError: the protocol leaves targets out, or the text cannot be read.
        CheckpointError: the loss is not finite, or constriction is not installed.
    """
    if request.protocol == "official":
        raise DataError("the protocol official leaves targets out; audit exact or streams")
    rows.library()  # before minutes of scoring
    loaded, protocol = request.model, protocol_of(request)
    text = read_text(request)
    num_targets = len(text.ids) - 1
    num_coded = min(stretch, num_targets)
    tick = Guard(on_start(request.split, protocol.name, num_targets + 2 * num_coded))
    sealed = sealed or Sealed()
    sealed.add(files_of(text=request.text, file=request.file, corpus=request.corpus, split=request.split))
    # The coder reads a copy: what the model keeps of being scored must not help to decode.
    untouched = replace(loaded, model=copy.deepcopy(loaded.model))
    coding = _Coding(untouched, text, num_coded, tick)
    module_of(loaded.model).eval()
    with sealed:
        coding.encode(lambda: nullcontext(untouched.model))
        places = _places(loaded, num_targets, protocol)
        with places.watching():
            scored = score_text(request, text=text, tick=tick, keep_nll=True)
    found = _static(loaded, scored, protocol, places, coding, sealed)
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
    guard, num_coded = Guard(tick), min(stretch, len(text.ids) - 1)
    try:
        if isinstance(how, Method):
            found = _adapted(loaded, claimed, text, how, num_coded, sealed, guard)
        else:
            found = _repeated(loaded, claimed, text, how, num_coded, sealed, guard)
    except Exception as error:
        guard.reraise(error)
        found = [failing("claim", error)]
    return ScoreAudit(
        checks=tuple(found),
        num_coded=num_coded,
        code=source.installed().to_json(),
        seconds=time.perf_counter() - started,
    )


def _repeated(
    loaded: LoadedModel,
    claimed: Score,
    text: TextSource,
    protocol: EvaluationProtocol,
    num_coded: int,
    sealed: Sealed,
    tick: Guard,
) -> list[Check]:
    """All checks of a static score of a record."""
    # What a model keeps of one score must not help it with the next, nor to decode.
    model, untouched = (replace(loaded, model=copy.deepcopy(loaded.model)) for _ in range(2))
    coding = _Coding(untouched, text, num_coded, tick)
    with sealed:
        coding.encode(lambda: nullcontext(untouched.model))
        places = _places(model, len(text.ids) - 1, protocol)
        with places.watching():
            scored = protocols.score(model.model, text.ids, protocol, tick=tick, keep_nll=True, in_order=True)
    made = _score(loaded, claimed, text, protocol, scored)
    found = _static(model, made, protocol, places, coding, sealed)
    return [claims.check(claimed, made.score, loaded.dtype), *found]


def _adapted(
    loaded: LoadedModel,
    claimed: Score,
    text: TextSource,
    how: Method,
    num_coded: int,
    sealed: Sealed,
    tick: Guard,
) -> list[Check]:
    """All checks of an adaptive score of a record."""
    assert claimed.adaptation is not None
    # A second copy adapts while it decodes, from the same trained weights.
    setting, other = claimed.adaptation["chosen"], copy.deepcopy(how)
    coding = _Coding(loaded, text, num_coded, tick)
    with sealed:
        coding.encode(lambda: other.by_token(setting))
        scored = how.score(text.ids, setting, tick, keep_nll=True)
    made = _score(loaded, claimed, text, how.protocol, scored)
    assert made.target_nll is not None
    with sealed:
        found = [claims.check(claimed, made.score, loaded.dtype)]
        found += adapted.check(how, setting, text.ids, len(loaded.vocabulary), loaded.dtype)
        found.append(counts.check(loaded, made, None))
        found.append(coding.check(lambda: other.by_token(setting), made.target_nll))
    return [*found, _sealed(loaded, text, sealed)]


def _score(
    loaded: LoadedModel, claimed: Score, text: TextSource, protocol: EvaluationProtocol, scored: Scored
) -> ScoredText:
    size = protocols.measure(text.ids, protocol, text.read or TokenText.of(loaded.vocabulary, loaded.unit))
    score = protocols.to_score(scored, claimed.split, protocol, (), 0.0, size)
    return ScoredText(score, text, scored.target_nll)


class _Coding:
    """Encodes the beginning of a text before it is scored, and decodes it at the end.

    A model that keeps in secret what it was given knows nothing of the text when it is encoded, and must give the same
    probabilities when it is decoded.

    Args:
        loaded: whose probabilities code.
        text: the text.
        num_coded: targets.
        tick: called after each token, in both directions.
    """

    def __init__(self, loaded: LoadedModel, text: TextSource, num_coded: int, tick: Guard) -> None:
        self.loaded, self.text, self.num_coded, self.tick = loaded, text, num_coded, tick
        self.ids = text.ids[: num_coded + 1]
        self.file, self.error = b"", ""

    def encode(self, reading: Callable[[], AbstractContextManager[LanguageModel]]) -> None:
        """Encode with the model of `reading`; an error is in the check."""
        try:
            with reading() as model:
                self.file = coder.encode(replace(self.loaded, model=model), self.ids, tick=self.tick)
        except Exception as error:
            self.tick.reraise(error)
            self.error = crash(error)

    def check(self, reading: Callable[[], AbstractContextManager[LanguageModel]], losses: np.ndarray) -> Check:
        """The check `coder`.

        Args:
            reading: as of `encode`.
            losses: of the score (N,), in nats.
        """
        claimed = math.fsum(losses[: self.num_coded]) / math.log(2)
        bound = _SHARE * claimed + _BITS
        catches, unit = (
            "a score that is not the length of any file from which the text comes back",
            "bits from the claim",
        )
        try:
            if self.error:
                return Check("coder", catches, None, bound, unit, False, self.error)
            bits = coder.payload_bits(self.file)
            with reading() as model:
                decoded = coder.decode(replace(self.loaded, model=model), self.file, tick=self.tick)
        except Exception as error:
            self.tick.reraise(error)
            return Check("coder", catches, None, bound, unit, False, crash(error))
        # Compared as text, which is what the reader of a file gets.
        same = counts.text_of(self.loaded, self.ids) == counts.text_of(self.loaded, decoded)
        figure = abs(bits - claimed)
        what = "bytes" if self.text.read is None else "tokens"
        detail = (
            f"{self.num_coded:,} targets claim {claimed:,.1f} bits and take {bits:,} in a file of "
            f"{len(self.file):,} bytes with its header; {'the same' if same else 'other'} {what} come back"
        )
        return Check("coder", catches, figure, bound, unit, same and figure <= bound, detail)


def _places(loaded: LoadedModel, num_targets: int, protocol: EvaluationProtocol) -> Places:
    num_windows = protocols.num_windows(loaded.model, num_targets, protocol)
    return Places(loaded.model, num_windows, protocol.window, loaded.dtype)


def _static(
    loaded: LoadedModel,
    made: ScoredText,
    protocol: EvaluationProtocol,
    places: Places,
    coding: _Coding,
    sealed: Sealed,
) -> list[Check]:
    """All checks of a static score but `claim`."""
    model, ids = loaded.model, made.text.ids
    assert made.target_nll is not None
    module_of(model).eval()
    with sealed:
        found = distributions.check(model, ids, len(loaded.vocabulary), loaded.dtype)
        found.append(places.check())
        found.append(counts.check(loaded, made, protocol))
        found.append(coding.check(lambda: nullcontext(coding.loaded.model), made.target_nll))
    return [*found, _sealed(loaded, made.text, sealed)]


def _sealed(loaded: LoadedModel, text: TextSource, sealed: Sealed) -> Check:
    return sealed.check(lambda opened: copies.find(copies.Pieces(loaded, text), loaded, opened))
