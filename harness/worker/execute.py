"""Run one job in this process: load, train, score, time kernels, and return the record."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import lm_models
from harness import data
from harness.checkpoints import model as checkpoint_model
from harness.core.errors import HarnessError, SuiteError
from harness.core.hashing import content_hash
from harness.core.messages import crash
from harness.core.scores import Score, TargetFile
from harness.core.specs import RunSpec
from harness.evaluation import protocols, target_bytes
from harness.evaluation.token_text import TokenText
from harness.monitoring.costs import account
from harness.monitoring.costs.attempts import Attempts
from harness.monitoring.costs.meter import Meter, startup
from harness.results import target_files
from harness.results.costs import GemmRecord
from harness.results.record import RunRecord
from harness.results.store import Store
from harness.system import hardware, source
from harness.timing.gemm import gemm_rate
from harness.timing.model_cases import cases_of, time_case
from harness.training.progress import Diverged, Interrupted
from harness.worker import partial_scores
from harness.worker.fit import fit, num_fitted
from harness.worker.job import Emit, Event, KernelTiming, Problem, RunJob, Scoring, Stop, Train
from harness.worker.train import train
from lm_models.plugin import contract
from lm_models.plugin.loader import foreign_code

if TYPE_CHECKING:
    from harness.core.ranks import Ranks


def run(job: RunJob, folder: Path, emit: Emit, stop: Stop) -> RunRecord:
    """Train or load a model, score it, and time its kernels. A failure becomes a record too.

    Args:
        job: the run and where its data is.
        folder: the run's folder, for checkpoints and sensor traces.
        emit: receives progress events.
        stop: asked after every training step and scoring window; True saves and stops.

    Returns:
        The record, not yet written; its status is finished, failed or diverged.

    Raises:
        Interrupted: `stop` returned True; the next call continues.
    """
    # A monotonic clock: the wall clock may be set while a run lasts for days.
    started = time.monotonic()
    record = RunRecord(
        run_id=job.spec.run_id,
        spec=job.spec,
        status="finished",
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        code=job.code.to_json(),
    )
    # Before the new attempt is noted: an attempt still marked as running was killed, and its trace says what it cost.
    attempts = Attempts(folder / "checkpoints")
    if attempts.problem:
        emit(Problem(text=attempts.problem))
    account.recover(attempts)
    attempts.begin(record.started_at, startup() if job.sensors else None, node=job.node)
    # Started before the load, so that the sampler covers it as a phase of its own.
    meter = Meter(attempts, job.spec.device, sensors=job.sensors)
    meter.start()
    try:
        with foreign_code():
            _fill(record, job, folder, _with_readings(emit, meter), stop, meter)
    # No record: an interrupted run is continued, and a record would end it.
    except Interrupted:
        attempts.end(time.monotonic() - started, "interrupted", meter.stop())
        raise
    except Diverged as end:
        record.status, record.error = "diverged", str(end)
    except HarnessError as error:
        record.status, record.error = "failed", str(error)
    except Exception as error:  # the record has one line, the run's log the traceback
        traceback.print_exc()
        record.status, record.error = "failed", crash(error)
    costs = meter.stop()
    record.seconds = time.monotonic() - started
    attempts.end(record.seconds, record.status, costs)
    meter.complete(record)
    return record


def write_record(record: RunRecord, store: Store) -> None:
    """Write a record, then delete the partial scores, which a failed run still needs for its next attempt.

    Args:
        record: what `run` returned.
        store: the results tree.

    Raises:
        StoreError: the record cannot be written.
    """
    store.write(record)
    if record.status != "failed":
        partial_scores.delete(store.run_folder(record.run_id) / "checkpoints")


def _fill(record: RunRecord, job: RunJob, folder: Path, emit: Emit, stop: Stop, meter: Meter) -> None:
    """Do the work of one run; each part enters the record as soon as it is known."""
    spec = job.spec
    with ExitStack() as until_scored:
        ranks = None
        with meter.phase("load"):
            model, corpus = load(record, job)
            meter.attempts.set_machine(record.machine["fingerprint"])
            if job.processes > 1 and spec.recipe is not None:
                from harness.worker import group

                ranks = until_scored.enter_context(group.started(job))
        if spec.recipe is not None:
            with meter.phase("train"):
                train(record, model, corpus, folder / "checkpoints", emit, stop, ranks)
        elif spec.is_fitted:
            with meter.phase("train"):
                model = fit(record, model, corpus, folder / "checkpoints", stop)
        with meter.phase("evaluate"):
            done = partial_scores.PartialScores(folder / "checkpoints", _scored_thing(record))
            if spec.is_compressor:
                from harness.worker import compressor

                record.scores = compressor.scores(record, model, done, _ticks(emit, stop))
                return
            record.scores = _score(spec, model, corpus, done, emit, stop, _keeper(corpus, folder), ranks)
    with meter.phase("kernels"):
        record.timings = _time_kernels(spec, model, emit, stop)
        if spec.recipe is not None:
            meter.add_gemm(lambda: GemmRecord(**asdict(gemm_rate(spec.device, getattr(torch, spec.dtype)))))
    # An adaptive protocol may diverge on sound weights: only its own row fails then.
    # Decided on all scores and not on the first: a record must not rank on one and fail on another.
    static = [score for score in record.scores if score.adaptation is None]
    if not all(math.isfinite(value) for score in static for value in score.metrics.values()):
        record.status, record.error = "diverged", "a score is not a finite number"


def load(record: RunRecord, job: RunJob) -> tuple[Any, Any]:
    """Build the model, with a checkpoint's weights where the spec names one, and open the corpus.

    Args:
        record: receives machine, data and model.
        job: the run.

    Returns:
        The model on its device, and the corpus.

    Raises:
        HarnessError: the code changed since the command was given, or device, model, data or checkpoint are unusable.
    """
    spec = job.spec
    # The files may have changed while the parent prepared data: the record would name the wrong code.
    if source.installed() != job.code:
        raise HarnessError("the harness's own code changed after the command was given; give it again")
    checkpoint_model.check_device(spec.device, builder=str(spec.model["builder"]), kernel=spec.kernel)
    checkpoint_model.forbid_tf32()
    torch.manual_seed(spec.seed)  # before the model is built: its initial weights depend on it
    record.machine = hardware.describe(spec.device).to_json()
    if spec.is_pretrained:
        from harness.worker import pretrained

        return pretrained.load(record, job)
    assert job.prepared is not None
    # Memory-mapped: the ids are not read here.
    corpus = data.load(job.prepared)
    record.data = dict(corpus.manifest)
    if spec.is_compressor:
        from harness.worker import compressor

        return compressor.load(record, corpus), corpus
    config = checkpoint_model.model_config(spec.model)
    dtype = torch.float64 if spec.dtype == "float64" else torch.float32
    try:
        model = lm_models.build(spec.model["builder"], config, vocab_size=corpus.vocab_size, kernel=spec.kernel)
    except ValueError as error:
        raise SuiteError(f"{spec.label.suite}: entries.{spec.label.entry}.model: {error}") from None
    model = model.to(device=spec.device, dtype=dtype)
    _check_window(spec, model)
    if spec.model_source is not None:
        _check_model_from_outside(spec, model, corpus.vocab_size)
    record.model = {
        "builder": spec.model["builder"],
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": spec.dtype,
        "kernels": dict(getattr(model, "kernels", {})),
        "forward_flops_per_token": config.forward_flops_per_token(corpus.vocab_size),
    }
    if spec.model_source is not None:
        record.model["source"] = spec.model_source
    record.model |= getattr(model, "context_of_targets", {})
    if spec.recipe is None and spec.checkpoint is not None:
        record.model["weights_dtype"] = checkpoint_model.load_for(spec, model, corpus)
        if lm_models.is_fitted(spec.model["builder"]):
            record.model["num_parameters"] = num_fitted(model)
    return model, corpus


def _check_window(spec: RunSpec, model: Any) -> None:
    """Refuse to train on windows that are longer than the context that a model without state is scored with."""
    context = getattr(model, "context", None)
    if context is not None and spec.recipe is not None and spec.recipe.bptt > context:
        raise SuiteError(
            f"{spec.label.suite}: entries.{spec.label.entry}.recipe.bptt of {spec.recipe.bptt} is more than the "
            f"model's context of {context}"
        )


def _check_model_from_outside(spec: RunSpec, model: Any, vocab_size: int) -> None:
    """Refuse other code than the run names, and a breach of the model's contract."""
    where = f"{spec.label.suite}: entries.{spec.label.entry}"
    if lm_models.source_of(spec.model["builder"]) != spec.model_source:
        raise SuiteError(f"{where}.model: its code changed after the command was given; give it again")
    try:
        contract.check(model.model, vocab_size=vocab_size)
    except ValueError as error:
        raise SuiteError(f"{where}.model: {spec.model['builder']}: {error}") from None


def _scored_thing(record: RunRecord) -> str:
    """A hash of run, code and weights: partial scores of anything else are not reused."""
    weights = (record.training or {}).get("checkpoint_sha256") or record.spec.checkpoint_sha256
    return content_hash([record.spec.identity, record.code["source_sha256"], weights])


def _keeper(corpus: Any, folder: Path) -> protocols.Keep:
    """Writes the loss of each target of a split, with its bytes, into the run's folder."""

    def keep(split: str, nll: np.ndarray) -> TargetFile | None:
        read = corpus.read.get(split)
        losses = (
            target_bytes.with_bytes(nll, corpus.splits[split], corpus.vocabulary, corpus.unit)
            if read is None
            else target_bytes.with_own_bytes(nll, read)
        )
        return None if losses is None else target_files.write(folder, split, losses)

    return keep


def _ticks(emit: Emit, stop: Stop) -> Callable[[str, str, int], protocols.Tick]:
    """What is called before each scoring: it returns a tick that tells of progress and stops on request."""

    def on_start(split: str, protocol: str, num_targets: int) -> protocols.Tick:
        scored = 0

        def tick(num_new: int) -> None:
            nonlocal scored
            scored += num_new
            emit(Scoring(split=split, protocol=protocol, done=scored, total=num_targets))
            if stop():
                raise Interrupted(f"scoring {split}")

        emit(Scoring(split=split, protocol=protocol, done=0, total=num_targets))
        return tick

    return on_start


def _score(
    spec: RunSpec,
    model: Any,
    corpus: Any,
    done: partial_scores.PartialScores,
    emit: Emit,
    stop: Stop,
    keep: protocols.Keep,
    ranks: Ranks | None = None,
) -> list[Score]:
    """Scores of every split under every protocol; those of an earlier invocation are not taken again.

    Nothing is reused with adaptive protocols, which cannot be interrupted.
    """
    on_start = _ticks(emit, stop)
    evaluation, metrics = spec.evaluation, spec.label.metrics
    tokens = None if corpus.read else TokenText.of(corpus.vocabulary, corpus.unit)
    if evaluation.is_prequential:
        assert evaluation.adaptive is not None
        from harness.evaluation.adaptive.prequential import score_prequential

        scored = score_prequential(
            model, corpus.splits, evaluation.adaptive, metrics, tokens=tokens, on_start=on_start
        )  # fmt: skip
        return [scored]
    scores: list[Score] = []
    for protocol in evaluation.protocols:
        for split in evaluation.splits:
            # One split at a time, each stored at once: an interruption costs at most one split.
            score = done.find(protocol, split) if evaluation.adaptive is None else None
            if score is None:
                keeps = evaluation.keep_nll and protocol == evaluation.protocols[0]
                piece = replace(evaluation, protocols=(protocol,), splits=(split,), keep_nll=keeps)
                # One stream cannot be divided: the other processes wait.
                sharing = None if protocol == "exact" else ranks
                if sharing is not None:
                    sharing.announce(f"{protocol} {split} {keeps}")
                [score] = protocols.score_splits(
                    model,
                    corpus.splits,
                    piece,
                    metrics,
                    tokens=corpus.read.get(split, tokens),
                    on_start=on_start,
                    keep=keep if keeps else None,
                    ranks=sharing,
                )
                done.add(score)
            scores.append(score)
    if evaluation.adaptive is None:
        return scores
    from harness.evaluation.adaptive.score import score_adapted

    return scores + score_adapted(
        model,
        corpus.splits,
        evaluation.adaptive,
        metrics,
        score=evaluation.splits,
        window=evaluation.window,
        static=scores,
        tokens=tokens,
        on_start=on_start,
    )


def _time_kernels(spec: RunSpec, model: Any, emit: Emit, stop: Stop) -> list[dict[str, Any]]:
    """Times of the ops that the suite asks for and this model runs, at the model's own shapes."""
    rows: list[dict[str, Any]] = []
    for op, backend, case in cases_of(spec, model) if spec.kernels else []:
        if stop():
            raise Interrupted(f"timing {op}")
        emit(KernelTiming(op=op, backend=backend, case=case.name))
        rows += [row.to_json() for row in time_case(spec, op, backend, case)]
    return rows


def _with_readings(emit: Emit, meter: Meter) -> Emit:
    """Add the newest sensor readings to the events that show progress."""

    def tell(event: Event) -> None:
        emit(event.model_copy(update={"now": meter.latest()}) if isinstance(event, Train | Scoring) else event)

    return tell
