"""The training part of a run: the run's loop, its progress events, and what its record says of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness.checkpoints import format
from harness.core.config.speed import applied, unverified
from harness.core.metrics import progress_metric
from harness.core.scores import Tally
from harness.core.specs import RunSpec
from harness.results.record import RunRecord
from harness.training.progress import CurveRow, Diverged, Hooks, TrainingState, summarize
from harness.training.trainer import Trainer
from harness.worker.job import Emit, Resumed, Stop, Train, Validation

if TYPE_CHECKING:
    from harness.core.ranks import Ranks


def train(
    record: RunRecord, model: Any, corpus: Any, folder: Path, emit: Emit, stop: Stop, ranks: Ranks | None = None
) -> None:
    """Train, or continue, and load the best weights into the model.

    Args:
        record: receives training, curve and kernels, also if training diverges.
        model: on its device.
        corpus: the prepared data.
        folder: for checkpoints.
        emit: receives progress events.
        stop: asked after every step and validation window.
        ranks: the processes of the run, which all call this; None for one.

    Raises:
        Interrupted: `stop` returned True; a checkpoint is saved.
        Diverged: the loss is not finite or too high.
        CheckpointError: the checkpoint belongs to another run or code.
    """
    spec = record.spec
    metric = progress_metric(spec.label.metrics)

    def value(nll_per_unit: float | None) -> float | None:
        return None if nll_per_unit is None else metric.compute(Tally(nll_per_unit, 1, 1, 0))

    def on_step(progress: TrainingState, nll_per_token: float) -> None:
        emit(
            Train(
                tokens=progress.tokens,
                total_tokens=trainer.total_tokens,
                loss=value(nll_per_token),
                best=value(progress.best_nll_per_unit),
                seconds=progress.seconds,
            )
        )

    def on_validation(row: CurveRow) -> None:
        emit(Validation.model_validate({"value": value(row.valid_nll_nats), **row.to_json()}))

    trainer = make_trainer(
        spec, model, corpus, folder, record.code["source_sha256"], Hooks(on_step, on_validation, stop), ranks
    )
    record.model["speed"] = asdict(trainer.speed)
    if trainer.resume():
        progress = trainer.progress
        emit(Resumed(tokens=progress.tokens, step=progress.step, thread_counts=tuple(progress.thread_counts)))
    try:
        trainer.fit()
    except Diverged:
        # The record keeps the curve up to the divergence.
        _describe_training(record, trainer, None)
        raise
    finally:
        # Only now: a layer may choose its backend by the shapes and dtype of its first call.
        record.model["kernels"] = dict(getattr(model, "kernels", {}))
        record.model["unverified"] = unverified(trainer.speed, record.model["kernels"], spec.dtype, spec.device)
    # What is scored is read from the file, and not kept in memory: a resumed run scores the same bytes.
    best = folder / "best"
    format.load_into(model, format.load_group(best, format.read_index(best), "model"), best)
    _describe_training(record, trainer, format.fingerprint(best))


def make_trainer(
    spec: RunSpec,
    model: Any,
    corpus: Any,
    folder: Path,
    code_sha256: str,
    hooks: Hooks,
    ranks: Ranks | None = None,
) -> Trainer:
    """The training loop of a run, as it trains and as a calibration times it.

    Args:
        spec: the run; it has a recipe.
        model: on its device.
        corpus: the prepared data.
        folder: for checkpoints.
        code_sha256: checksum of the code, part of a checkpoint's identity.
        hooks: callbacks of the loop.
        ranks: the processes of the run; None for one.

    Returns:
        A trainer at step 0.
    """
    assert spec.recipe is not None
    return Trainer(
        model,
        corpus,
        spec.recipe,
        seed=spec.seed,
        folder=folder,
        identity=spec.checkpoint_identity(code_sha256),
        autocast=_autocast(spec),
        speed=applied(spec.speed, spec.device),
        loss_scale=spec.dtype == "float16",
        checkpoint_every_s=spec.checkpoint_every_s,
        hooks=hooks,
        ranks=ranks,
    )


def _describe_training(record: RunRecord, trainer: Trainer, checkpoint_sha256: str | None) -> None:
    """Put summary and learning curve into the record."""
    state = trainer.progress
    record.training = summarize(state, trainer.recipe, checkpoint_sha256=checkpoint_sha256).to_json()
    record.curve = [row.to_json() for row in state.curve]


def _autocast(spec: RunSpec) -> Callable[[], Any]:
    """16-bit training runs under autocast over float32 weights; scores are taken in the weights' own dtype."""
    if spec.dtype not in ("bfloat16", "float16"):
        return nullcontext
    return lambda: torch.autocast(spec.device.split(":")[0], dtype=getattr(torch, spec.dtype))
