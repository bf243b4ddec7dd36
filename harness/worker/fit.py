"""The training part of a run whose model counts the training split at once, instead of following gradients."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from harness.checkpoints import format
from harness.checkpoints import model as checkpoint_model
from harness.core.errors import SuiteError
from harness.results.record import RunRecord
from harness.training.progress import Interrupted
from harness.worker.job import Stop


def fit(record: RunRecord, model: Any, corpus: Any, folder: Path, stop: Stop) -> Any:
    """Call the model's `fit` on the training split, and save the model where a trained one has its best weights.

    An interrupted run fits again: the same text gives the same model. What a model from outside keeps elsewhere than in
    its buffers is lost here, and not between the score and the first use of the checkpoint.

    Args:
        record: receives training and the number of fitted values.
        model: on its device.
        corpus: the prepared data.
        folder: for the checkpoint.
        stop: asked once, after the model is saved.

    Returns:
        The model of the checkpoint.

    Raises:
        CheckpointError: the checkpoint does not fit the model, as where `fit` changed a shape.
        SuiteError: the model refuses the text; the message has its reason.
        Interrupted: `stop` returned True.
    """
    spec = record.spec
    ids = np.asarray(corpus.splits["train"])
    started = time.perf_counter()
    try:
        model.fit(ids, list(corpus.vocabulary))
    except ValueError as error:
        raise SuiteError(f"{spec.label.suite}: entries.{spec.label.entry}.model: {error}") from None
    seconds = time.perf_counter() - started
    meta = {
        "identity": spec.checkpoint_identity(record.code["source_sha256"]),
        "model": spec.model,
        "dtype": spec.dtype,
        "unit": corpus.unit,
        "vocabulary": list(corpus.vocabulary),
    }
    format.save(folder / "best", {"model": model.state_dict()}, meta)
    record.model["num_parameters"] = num_fitted(model)
    record.training = {
        "tokens": len(ids),
        "seconds": seconds,
        "tokens_per_s": len(ids) / seconds,
        "checkpoint_sha256": format.fingerprint(folder / "best"),
    }
    if stop():
        raise Interrupted("fitting")
    return checkpoint_model.load(folder / "best", device=spec.device, kernel=spec.kernel).model


def num_fitted(model: Any) -> int:
    """Values that a fitted model holds: those of its checkpoint."""
    return sum(tensor.numel() for tensor in model.state_dict().values())
