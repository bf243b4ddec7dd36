"""How fast one run goes on this machine: a few real steps, a checkpoint, and the beginning of every scoring.

Everything is done by the code that the run itself will use, on the run's own data and shapes, in a folder that is
thrown away afterwards. Nothing of it reaches the run: model, optimiser and random generators are made anew there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from harness.checkpoints import format
from harness.core.interfaces import Corpus
from harness.core.rates import MEASURED, Rates
from harness.core.scores import EvaluationProtocol
from harness.core.specs import RunSpec
from harness.evaluation import protocols
from harness.timing.model_cases import cases_of, time_case
from harness.training import throughput
from harness.training.throughput import Stopped
from harness.training.trainer import Hooks, Interrupted, Trainer
from harness.training.watching import TRAINING_TIMES


class _Enough(Exception):  # noqa: N818 - ends a scoring whose speed is known
    """Enough of a split has been scored."""


def measure(
    spec: RunSpec,
    model: Any,
    corpus: Corpus,
    make_trainer: Callable[[Hooks], Trainer],
    folder: Path,
    *,
    seconds: float,
    stop: Callable[[], bool],
) -> dict[str, Any]:
    """`harness.runs.schedule.Rates` as JSON holds them. seconds: about how long a part is watched; see TRAINING_TIMES.

    make_trainer gives the run's own training loop; folder, where it and this keep their checkpoints, is the caller's
    to throw away. Raises Interrupted where `stop` says so, Diverged where the recipe fails within these few steps.
    """
    began_s, start_s = time.perf_counter(), time.time() - psutil.Process().create_time()
    assert spec.recipe is not None
    validation = spec.recipe.validation
    try:
        found = throughput.measure(make_trainer, seconds * TRAINING_TIMES[torch.device(spec.device).type], stop)
        keep_s = _time_to_save(folder / "keep", {"model": model.state_dict()})
        own = protocols.streams(validation.streams, validation.warmup, validation.window)
        validation_s = _scoring_s(model, corpus.splits["valid"], own, seconds, stop) + keep_s
        pieces = _pieces(spec, model, corpus, seconds, stop)
        timing_s = _timing_s(spec, model)
    except Stopped:
        raise Interrupted("calibration") from None
    rates = Rates(
        source=MEASURED,
        train_tokens_per_s=found.tokens_per_s,
        validation_s=validation_s,
        scoring_s=sum(pieces) + timing_s,
        longest_piece_s=max(validation_s, *pieces, timing_s),
        start_s=start_s,
        save_s=found.save_s,
        spent_s=start_s + time.perf_counter() - began_s,
    )
    return asdict(rates)


def _pieces(spec: RunSpec, model: Any, corpus: Corpus, seconds: float, stop: Callable[[], bool]) -> list[float]:
    """Seconds of each split under each of the suite's protocols."""
    evaluation = spec.evaluation
    return [
        _scoring_s(model, corpus.splits[split], protocols.protocol_for(name, split, evaluation), seconds, stop)
        for name in evaluation.protocols
        for split in evaluation.splits
    ]


def _scoring_s(
    model: Any, ids: np.ndarray, protocol: EvaluationProtocol, seconds: float, stop: Callable[[], bool]
) -> float:
    """What the whole split would take at the pace of its beginning, the first window left out where there are more."""
    started = time.perf_counter()
    marks: list[tuple[float, int]] = []
    done = 0

    def tick(scored: int) -> None:
        nonlocal done
        done += scored
        marks.append((time.perf_counter(), done))
        if stop():
            raise Stopped
        if marks[-1][0] - started >= seconds and len(marks) > 1:
            raise _Enough

    try:
        protocols.score(model, ids, protocol, tick=tick)
    except _Enough:
        (first_s, first), (last_s, last) = marks[0], marks[-1]
        return (last_s - first_s) / (last - first) * (len(ids) - 1)
    return time.perf_counter() - started


def _timing_s(spec: RunSpec, model: Any) -> float:
    """Kernels timed after scoring: one case of each op is timed, and stands for the others of it."""
    total, cases = 0.0, cases_of(spec, model)
    for op in dict.fromkeys(op for op, _, _ in cases):
        mine = [(backend, case) for each, backend, case in cases if each == op]
        started = time.perf_counter()
        time_case(spec, op, *mine[0])
        total += (time.perf_counter() - started) * len(mine)
    return total


def _time_to_save(folder: Path, groups: dict[str, Any]) -> float:
    started = time.perf_counter()
    format.save(folder, groups, {})
    return time.perf_counter() - started
