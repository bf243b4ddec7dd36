"""Audit the scores of a finished run with its saved weights, and complete its record."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import lm_models
from harness import data
from harness.checkpoints import format
from harness.checkpoints import model as checkpoint_model
from harness.core.audits import ScoreAudit
from harness.core.config.evaluation import PARTS, WHOLE
from harness.core.errors import CheckpointError, HarnessError
from harness.core.hashing import content_hash
from harness.core.interfaces import Corpus, LoadedModel
from harness.core.messages import reason
from harness.core.scores import EvaluationProtocol, Score
from harness.core.specs import RunSpec
from harness.evaluation import pretrained, protocols
from harness.evaluation.adaptive.methods import Method, method_for
from harness.evaluation.audit import report
from harness.evaluation.audit.sealed import Sealed
from harness.evaluation.coding import rows
from harness.evaluation.compressors import audit as compressor_audit
from harness.evaluation.compressors.score import Compressor
from harness.evaluation.scoring import TextSource
from harness.results.record import RunRecord
from harness.results.store import Store
from harness.training.progress import Interrupted
from harness.worker.job import Emit, Problem, RunJob, Scoring, Stop
from lm_models.plugin.loader import foreign_code

# Targets that a suite's audit codes. A model without state reads its whole context for each of them, twice.
STRETCH, STRETCH_WITHOUT_STATE = 2_000, 100
SPLITS = ("train", "valid", "test")
_TICK = 256  # targets between two events


def complete(job: RunJob, emit: Emit, stop: Stop) -> None:
    """Audit the scores of a finished run and write the verdicts into its record. A problem is an event, no error.

    Raises:
        Interrupted: `stop` returned True; the record has no audit yet.
    """
    store = Store(job.results)
    try:
        record = store.find(job.spec.run_id)
        if record is None or record.status != "finished":
            return
        audits = audit_record(record, job, emit, stop)
        store.add_audits(record.run_id, audits)
    except Interrupted:
        raise
    except HarnessError as error:
        emit(Problem(text=f"not audited: {error}"))
        return
    except Exception as error:  # of a model from outside; the scores are sound until shown otherwise
        emit(Problem(text=f"not audited: {reason(error, with_path=True)}"))
        return
    for index, audit in audits.items():
        if not audit.passed:
            score = record.scores[index]
            emit(Problem(text=f"{score.split} ({score.protocol.name}): FAILED the audit: {', '.join(audit.failed)}"))


def audit_record(
    record: RunRecord, job: RunJob, emit: Emit, stop: Stop, *, stretch: int | None = None
) -> dict[int, ScoreAudit]:
    """Audit every score of a record that can be.

    Args:
        record: of a finished run.
        job: the run and where its data is; the checkpoints are in its results folder.
        emit: receives progress events.
        stop: asked while scoring and coding.
        stretch: number of targets to encode and decode; None for STRETCH, or STRETCH_WITHOUT_STATE.

    Returns:
        Index of the score -> its audit.

    Raises:
        Interrupted: `stop` returned True.
        HarnessError: weights or data are missing, or the extra audit is not installed.
    """
    rows.library()
    if job.spec.is_compressor:
        return _files_again(record, data.load(_known(job.prepared)))
    spec, folder = job.spec, Store(job.results).run_folder(record.run_id)
    checkpoint_model.check_device(spec.device, builder=str(spec.model["builder"]), kernel=spec.kernel)
    checkpoint_model.forbid_tf32()
    corpus = None if spec.is_pretrained else data.load(_known(job.prepared))
    sealed = Sealed(*_files(job, corpus))
    with foreign_code():
        with sealed:
            loaded = _load(spec, folder, corpus, job.results)
        if stretch is None:
            stretch = STRETCH if getattr(loaded.model, "sliding", None) is None else STRETCH_WITHOUT_STATE
        methods: dict[str, Method] = {}
        audits = {}
        for index, score in enumerate(record.scores):
            if not score.can_be_audited:
                continue
            text = _text(loaded, corpus, job, score.split)
            num_targets = len(text.ids) - 1
            audits[index] = report.audit_score(
                loaded,
                score,
                text,
                how=_how(spec, score, loaded, corpus, methods),
                stretch=stretch,
                sealed=sealed,
                tick=ticks(emit, stop)(score.split, score.protocol.name, num_targets + 2 * min(stretch, num_targets)),
            )
    return audits


def ticks(emit: Emit, stop: Stop) -> Callable[[str, str, int], protocols.Tick]:
    """Progress of audits as events of scoring: an `OnStart`."""

    def on_start(split: str, protocol: str, total: int) -> protocols.Tick:
        done = told = 0

        def tick(num_new: int) -> None:
            nonlocal done, told
            done += num_new
            # The coder calls for every token.
            if done - told >= _TICK or done == total:
                told = done
                emit(Scoring(split=split, protocol=f"{protocol}, audit", done=done, total=total))
                if stop():
                    raise Interrupted(f"the audit of {split}")

        return tick

    return on_start


def _files_again(record: RunRecord, corpus: Corpus) -> dict[int, ScoreAudit]:
    """Write the files of a compressor's scores again."""
    compressor = Compressor(checkpoint_model.model_config(record.spec.model), corpus)
    made_with = record.model.get("libraries") or {}
    return {index: compressor_audit.audit(compressor, score, made_with) for index, score in enumerate(record.scores)}


def _known(prepared: Path | None) -> Path:
    assert prepared is not None
    return prepared


def _files(job: RunJob, corpus: Corpus | None) -> tuple[list[Path], list[str]]:
    """The files of the run's text: their places, and the names of those that were tokenised."""
    dataset = job.spec.dataset
    own = [Path(dataset[key]).name for key in ("file", *SPLITS) if isinstance(dataset.get(key), str)]
    if corpus is None:
        return list(job.texts.values()), own
    sources = [] if "kind" in dataset else [str(each["file"]) for each in corpus.manifest["sources"]]
    return [_known(job.prepared)], own + sources


def _load(spec: RunSpec, folder: Path, corpus: Corpus | None, results: Path) -> LoadedModel:
    """The model of a run from its weights, as a decoder would have it."""
    if corpus is None:
        config = checkpoint_model.model_config(spec.model)
        return pretrained.load(config, device=spec.device, offline=data.network_is_off()).as_checkpoint()
    has_weights = spec.recipe is not None or spec.is_fitted
    if not has_weights and spec.checkpoint is None:
        return _without_weights(spec, corpus)
    # A record names a checkpoint inside the results tree by its path there.
    place = folder / "checkpoints" / "best" if has_weights else results / str(spec.checkpoint)
    if not (place / format.INDEX).is_file():
        raise CheckpointError(f"{place}: the weights are not there; `harness run SUITE --again` makes them again")
    loaded = checkpoint_model.load(place, device=spec.device, kernel=spec.kernel)
    if loaded.vocabulary != list(corpus.vocabulary):
        raise CheckpointError(f"{place}: its vocabulary is not that of {corpus.name}")
    return loaded


def _without_weights(spec: RunSpec, corpus: Corpus) -> LoadedModel:
    config = checkpoint_model.model_config(spec.model)
    dtype = "float64" if spec.dtype == "float64" else "float32"
    torch.manual_seed(spec.seed)  # as the run: under `prequential` these weights are scored
    model = lm_models.build(spec.model["builder"], config, vocab_size=corpus.vocab_size, kernel=spec.kernel)
    return LoadedModel(
        folder=Path(spec.model["builder"]),
        model=model.to(device=spec.device, dtype=getattr(torch, dtype)).eval(),  # type: ignore[arg-type]
        block=spec.model,
        dtype=dtype,
        weights_dtype=dtype,
        vocabulary=list(corpus.vocabulary),
        unit=corpus.unit,
        sha256=content_hash(spec.model),
        device=spec.device,
    )


def _text(loaded: LoadedModel, corpus: Corpus | None, job: RunJob, split: str) -> TextSource:
    if corpus is not None and split == WHOLE:
        ids = np.concatenate([corpus.splits[part] for part in PARTS])
        return TextSource(ids, f"all of {corpus.name}", corpus.name, split)
    if corpus is not None:
        return TextSource(corpus.splits[split], f"{corpus.name}'s {split} split", corpus.name, split)
    assert loaded.reader is not None
    read = loaded.reader.read(job.texts[split])
    return TextSource(read.ids, str(job.texts[split]), read=read)


def _how(
    spec: RunSpec, score: Score, loaded: LoadedModel, corpus: Corpus | None, methods: dict[str, Method]
) -> EvaluationProtocol | Method:
    """The protocol of a score as the suite asks for it; an adaptive one on a copy of the model."""
    evaluation, name = spec.evaluation, score.protocol.name
    if score.adaptation is None:
        return protocols.protocol_for(name, score.split, evaluation)
    assert evaluation.adaptive is not None
    assert corpus is not None
    if name not in methods:
        by_protocol = evaluation.adaptive.by_protocol()
        [config] = by_protocol.values() if evaluation.is_prequential else [by_protocol[name]]
        methods[name] = method_for(copy.deepcopy(loaded.model), config, evaluation.window)
        methods[name].prepare(corpus.splits, protocols.ignore_start)
    return copy.deepcopy(methods[name])
