"""Score one checkpoint on one text: `harness evaluate`."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from harness.core.config.evaluation import Evaluation, SplitName
from harness.core.errors import CheckpointError, DataError
from harness.core.hashing import finite_or_none
from harness.core.interfaces import Corpus, LoadedModel, ReadText, SplitFile
from harness.core.metrics import METRICS, default_metric
from harness.core.scores import EvaluationProtocol, Pieces, Score, TextSize
from harness.core.units import EOS
from harness.evaluation import protocols
from harness.evaluation.token_text import TokenText
from harness.evaluation.tokenizer import Tokens
from harness.system import source


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRequest:
    """What to score and how. Give one of `corpus` with `split`, `file` and `text`.

    `file` is that of one split of a dataset that is not prepared; `text` may be a pipe, counts as the split `test`, and
    has its `unknown` tokens replaced. `batch` is the number of streams of `official`, None for the split's usual one.
    """

    model: LoadedModel
    corpus: Corpus | None = None
    split: SplitName = "test"
    file: SplitFile | None = None
    text: Path | None = None
    unknown: str | None = None
    protocol: str = "exact"
    batch: int | None = None
    window: int | None = None


@dataclass(frozen=True, slots=True)
class TextFile:
    """How a text file was read: its path, sha256, number of tokens, and what replaced how many unknown ones.

    begin: the token before the text, and size: of what was read from the file, both for a pretrained model.
    """

    file: str
    sha256: str
    tokens: int
    reading: str
    unknown: str | None
    num_unknown: int
    begin: str | None = None
    size: TextSize | None = None


@dataclass(frozen=True, slots=True)
class VocabularyId:
    """Size of a vocabulary and the sha256 of its tokens in order, each followed by NUL."""

    tokens: int
    sha256: str


@dataclass(frozen=True, slots=True)
class CheckpointScore:
    """A score with everything needed to repeat it, in the order in which it is printed."""

    checkpoint: str
    checkpoint_sha256: str
    model: Mapping[str, object]
    origin: Mapping[str, object] | None
    vocabulary: VocabularyId
    unit: str
    dataset: str | None
    split: str | None
    text: TextFile | None
    identity: Mapping[str, object] | None
    protocol: str
    protocol_details: EvaluationProtocol
    pieces: Pieces | None
    nll_nats: float
    num_targets: int
    num_units: int
    num_dropped: int
    num_bytes: int | None
    num_chars: int | None
    num_words: int | None
    metrics: Mapping[str, float | None]
    std_errors: Mapping[str, float | None]
    device: str
    dtype: str
    weights_dtype: str
    seconds: float
    code: Mapping[str, str]

    def to_json(self) -> dict[str, object]:
        """As `harness evaluate --json` prints it; `identity` is that of a dataset and absent without one."""
        return {key: value for key, value in asdict(self).items() if key != "identity" or self.dataset is not None}


@dataclass(frozen=True, slots=True)
class TextSource:
    """Token ids (N,) in the checkpoint's numbers and where they come from; `read` if its own tokeniser made them."""

    ids: np.ndarray
    title: str
    dataset: str | None = None
    split: str | None = None
    text: TextFile | None = None
    identity: Mapping[str, object] | None = None
    read: ReadText | None = None


@dataclass(frozen=True, slots=True)
class ScoredText:
    """A score with the text, and the loss of each target (N - 1,) if it was kept."""

    score: Score
    text: TextSource
    target_nll: np.ndarray | None


def score_text(
    request: EvaluationRequest,
    *,
    text: TextSource | None = None,
    tick: protocols.Tick | None = None,
    keep_nll: bool = False,
) -> ScoredText:
    """Score a checkpoint on a text.

    Args:
        request: model, text and protocol.
        text: of `read_text`; None to read it here.
        tick: called with the number of targets scored since the last call.
        keep_nll: also return the loss of each target, except under `official`.

    Returns:
        The score, with the default metric of the model's unit.

    Raises:
        CheckpointError: the checkpoint lacks tokens of the dataset, or its loss is not finite.
        DataError: the text cannot be read, has unknown tokens or is too short.
    """
    if request.batch is not None and request.protocol != "official":
        raise DataError(f"--batch goes with --protocol official, not {request.protocol}")
    model = request.model
    text = text or read_text(request)
    protocol = protocol_of(request)
    started = time.perf_counter()
    try:
        scored = protocols.score(model.model, text.ids, protocol, tick=tick, keep_nll=keep_nll)
    except ValueError as error:
        raise DataError(f"{text.title}: {error}") from None
    metrics = _metrics(model)
    seconds = time.perf_counter() - started
    size = protocols.measure(text.ids, protocol, text.read or TokenText.of(model.vocabulary, model.unit))
    score = protocols.to_score(scored, request.split, protocol, metrics, seconds, size)
    # Weights that were damaged or diverged: a table must not show NaN as a score.
    if not math.isfinite(score.tally.nll_nats):
        raise CheckpointError(f"{model.folder}: its loss on {text.title} is {score.tally.nll_nats}")
    return ScoredText(score, text, scored.target_nll)


def score_checkpoint(request: EvaluationRequest, *, tick: Callable[[int], None] | None = None) -> CheckpointScore:
    """Score a checkpoint on a text, as `score_text` does.

    Args:
        request: model, text and protocol.
        tick: called with the number of targets scored since the last call.

    Returns:
        The score: bits per character, or perplexity for a vocabulary of words.
    """
    scored = score_text(request, tick=tick)
    model, text, score = request.model, scored.text, scored.score
    return CheckpointScore(
        checkpoint=str(model.folder),
        checkpoint_sha256=model.sha256,
        model=dict(model.block),
        origin=model.origin,
        vocabulary=VocabularyId(len(model.vocabulary), _list_sha256(model.vocabulary)),
        unit=model.unit,
        dataset=text.dataset,
        split=text.split,
        text=text.text,
        identity=text.identity,
        protocol=score.protocol.name,
        protocol_details=score.protocol,
        pieces=score.pieces,
        nll_nats=score.tally.nll_nats,
        num_targets=score.tally.num_targets,
        num_units=score.tally.num_units,
        num_dropped=score.tally.num_dropped,
        num_bytes=score.tally.num_bytes,
        num_chars=score.tally.num_chars,
        num_words=score.tally.num_words,
        # exp overflows for long words of a poor model.
        metrics={name: finite_or_none(value) for name, value in score.metrics.items()},
        std_errors={name: finite_or_none(value) for name, value in score.std_errors.items()},
        device=model.device,
        dtype=model.dtype,
        weights_dtype=model.weights_dtype,
        seconds=score.seconds,
        code=source.installed().to_json(),
    )


def _metrics(model: LoadedModel) -> list[str]:
    """The metric of the model's unit; a pretrained model's tokens are no unit, so the ones that divide by the text."""
    if model.reader is None:
        return [default_metric(model.unit).name]
    return [name for name, each in METRICS.items() if each.divides_by != "num_units"]


def protocol_of(request: EvaluationRequest) -> EvaluationProtocol:
    """The protocol that a suite with these settings would use."""
    evaluation = Evaluation() if request.window is None else Evaluation(window=request.window)
    if request.protocol == "official" and request.batch is not None:
        return protocols.official(request.batch, evaluation.window)
    return protocols.protocol_for(request.protocol, request.split, evaluation)


def read_text(request: EvaluationRequest) -> TextSource:
    """The text in the model's tokens. Raises CheckpointError or DataError as `score_text`."""
    model, corpus, file = request.model, request.corpus, request.file
    if model.reader is not None:
        return _own_tokens(request)
    if corpus is not None:
        return TextSource(
            _translated(model, corpus, request.split),
            f"{corpus.name}'s {request.split} split",
            dataset=corpus.name,
            split=request.split,
            identity=corpus.manifest.get("identity"),
        )
    if file is not None:
        # Without the training text the dataset's own vocabulary is unknown; the checkpoint's reads the file.
        if EOS not in model.vocabulary:
            raise CheckpointError(
                f"{model.folder}: its vocabulary lacks {EOS}, which ends every line of {file.dataset}"
            )
        ids, text = _read(model, file.path, None, "; score it on the dataset it was trained on")
        title = f"{file.dataset}'s {file.split} split"
        return TextSource(ids, title, file.dataset, file.split, text, dict(file.identity))
    assert request.text is not None
    ids, text = _read(model, request.text, request.unknown, "; --unknown TOKEN replaces them by one token")
    return TextSource(ids, str(request.text), text=text)


def _own_tokens(request: EvaluationRequest) -> TextSource:
    """The text of a file as a pretrained model's own tokeniser reads it."""
    model, file = request.model, request.file
    path = request.text if file is None else file.path
    assert path is not None
    assert model.reader is not None
    if request.unknown is not None or request.protocol == "official":
        raise DataError(f"{model.folder}: --unknown and --protocol official are for vocabularies, not for a tokeniser")
    read = model.reader.read(path)
    # A beginning token is fed to the model and is no part of the text.
    tokens = len(read.ids) - read.num_added
    text = TextFile(str(path), read.sha256, tokens, model.reader.reading, None, 0, read.begin, read.size_read)
    if file is None:
        return TextSource(read.ids, str(path), text=text, read=read)
    title = f"{file.dataset}'s {file.split} split"
    return TextSource(read.ids, title, file.dataset, file.split, text, dict(file.identity), read)


def _translated(model: LoadedModel, corpus: Corpus, split: str) -> np.ndarray:
    """The split in the checkpoint's ids: the same tokens in another order are the same text."""
    if list(corpus.vocabulary) == model.vocabulary:
        return corpus.splits[split]
    ids = {token: number for number, token in enumerate(model.vocabulary)}
    missing = [token for token in corpus.vocabulary if token not in ids]
    if missing:
        raise CheckpointError(
            f"{model.folder}: its vocabulary ({len(ids):,} tokens) lacks {len(missing):,} of {corpus.name}'s "
            f"{corpus.vocab_size:,}, such as {missing[0][:40]!r}; score it on the dataset it was trained on"
        )
    # By table, since a split may have 10^8 tokens.
    table = np.array([ids[token] for token in corpus.vocabulary], dtype=np.uint32)
    return np.take(table, corpus.splits[split])


def _read(model: LoadedModel, path: Path, unknown: str | None, hint: str) -> tuple[np.ndarray, TextFile]:
    encoded = Tokens.of(model.vocabulary, model.unit).encode_file(path, unknown=unknown, hint=hint)
    size = len(encoded.ids)
    return encoded.ids, TextFile(str(path), encoded.sha256, size, encoded.reading, unknown, encoded.num_unknown)


def _list_sha256(words: Sequence[str]) -> str:
    hasher = hashlib.sha256()
    for word in words:
        # surrogatepass: a vocabulary of an imported checkpoint may hold lone surrogates.
        hasher.update(word.encode("utf-8", "surrogatepass") + b"\0")
    return hasher.hexdigest()
