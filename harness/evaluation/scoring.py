"""One checkpoint scored on one text: `harness evaluate`."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.config.evaluation import Evaluation, SplitName
from harness.core.errors import CheckpointError, DataError
from harness.core.hashing import finite_or_none
from harness.core.interfaces import Corpus, LoadedModel, SplitFile
from harness.core.metrics import default_metric
from harness.core.scores import EvaluationProtocol, Score
from harness.core.units import EOS
from harness.evaluation import protocols
from harness.evaluation.tokenizer import Tokens
from harness.system import source


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to score and how. Either `corpus` with `split`, or the `file` of one split, or a `text`.

    batch: streams of `official`.
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
class _Target:
    """Ids to score, and what the answer says of them."""

    ids: np.ndarray
    about: Mapping[str, Any]
    name: str


def run(request: Request, *, tick: Callable[[int], None] | None = None) -> dict[str, Any]:
    """Score, and say what the number is of.

    Raises CheckpointError, DataError or DeviceError where checkpoint, text and device do not fit.
    """
    if request.batch is not None and request.protocol != "official":
        raise DataError(f"--batch goes with --protocol official, not {request.protocol}")
    model = request.model
    target = _target(model, request)
    protocol = _protocol(request)
    started = time.perf_counter()
    try:
        scored = protocols.score(model.model, target.ids, protocol, tick=tick)
    except ValueError as error:
        raise DataError(f"{target.name}: {error}") from None
    metrics = [default_metric(model.unit).name]
    score = protocols.to_score(scored, request.split, protocol, metrics, time.perf_counter() - started)
    if not math.isfinite(score.tally.nll_nats):
        raise CheckpointError(f"{request.model.folder}: its loss on {target.name} is {score.tally.nll_nats}")
    return _answer(request, model, target, score)


def _protocol(request: Request) -> EvaluationProtocol:
    """As a suite would build it; a text file counts as a test split, and `batch` stands in for the split's own."""
    evaluation = Evaluation() if request.window is None else Evaluation(window=request.window)
    if request.protocol == "official" and request.batch is not None:
        return protocols.official_streams(request.batch, evaluation.window)
    return protocols.protocol_for(request.protocol, request.split, evaluation)


def _target(model: LoadedModel, request: Request) -> _Target:
    if request.corpus is not None:
        return _of_corpus(model, request.corpus, request.split)
    if request.file is not None:
        return _of_split_file(model, request.file)
    assert request.text is not None
    return _of_text(model, request.text, request.unknown)


def _of_corpus(model: LoadedModel, corpus: Corpus, split: str) -> _Target:
    about = {
        "dataset": corpus.name,
        "split": split,
        "text": None,
        "identity": corpus.manifest.get("identity"),
    }
    return _Target(_own_ids(model, corpus, split), about, f"{corpus.name}'s {split} split")


def _own_ids(model: LoadedModel, corpus: Corpus, split: str) -> np.ndarray:
    """The split in the checkpoint's ids: the same tokens in another order are the same text.

    Raises CheckpointError where the dataset holds a token that the checkpoint does not know.
    """
    if list(corpus.vocabulary) == model.vocabulary:
        return corpus.splits[split]
    ids = {token: number for number, token in enumerate(model.vocabulary)}
    missing = [token for token in corpus.vocabulary if token not in ids]
    if missing:
        raise CheckpointError(
            f"{model.folder}: its vocabulary ({len(ids):,} tokens) lacks {len(missing):,} of {corpus.name}'s "
            f"{corpus.vocab_size:,}, such as {missing[0][:40]!r}; score it on the dataset it was trained on"
        )
    table = np.array([ids[token] for token in corpus.vocabulary], dtype=np.uint32)
    return np.take(table, corpus.splits[split])


def _of_split_file(model: LoadedModel, file: SplitFile) -> _Target:
    """The split read by the checkpoint's own vocabulary: without the training text the dataset's is not known."""
    if EOS not in model.vocabulary:
        raise CheckpointError(f"{model.folder}: its vocabulary lacks {EOS}, which ends every line of {file.dataset}")
    read = _of_text(model, file.path, None, hint="; score it on the dataset it was trained on")
    about = {**read.about, "dataset": file.dataset, "split": file.split, "identity": dict(file.identity)}
    return _Target(read.ids, about, f"{file.dataset}'s {file.split} split")


def _of_text(
    model: LoadedModel, path: Path, unknown: str | None, hint: str = "; --unknown TOKEN lets one token stand for them"
) -> _Target:
    encoded = Tokens.of(model.vocabulary, model.unit).encode_file(path, unknown=unknown, hint=hint)
    text = {
        "file": str(path),
        "sha256": encoded.sha256,
        "tokens": len(encoded.ids),
        "reading": encoded.reading,
        "unknown": unknown,
        "num_unknown": encoded.num_unknown,
    }
    return _Target(encoded.ids, {"dataset": None, "split": None, "text": text}, str(path))


def _answer(request: Request, model: LoadedModel, target: _Target, score: Score) -> dict[str, Any]:
    tally = score.tally
    return {
        "checkpoint": str(request.model.folder),
        "checkpoint_sha256": model.sha256,
        "model": dict(model.block),
        "origin": model.origin,
        "vocabulary": {"tokens": len(model.vocabulary), "sha256": _list_sha256(model.vocabulary)},
        "unit": model.unit,
        **target.about,
        "protocol": score.protocol.name,
        "protocol_details": asdict(score.protocol),
        "nll_nats": tally.nll_nats,
        "num_targets": tally.num_targets,
        "num_units": tally.num_units,
        "num_dropped": tally.num_dropped,
        "metrics": dict(score.metrics),
        "std_errors": {name: finite_or_none(value) for name, value in score.std_errors.items()},
        "device": request.model.device,
        "dtype": model.dtype,
        "weights_dtype": model.weights_dtype,
        "seconds": score.seconds,
        "code": source.installed().to_json(),
    }


def _list_sha256(words: Sequence[str]) -> str:
    """sha256 over the tokens in order, each ended by a NUL, which no token holds."""
    hasher = hashlib.sha256()
    for word in words:
        hasher.update(word.encode("utf-8", "surrogatepass") + b"\0")
    return hasher.hexdigest()
