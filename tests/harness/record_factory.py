"""Records as a worker would write them, with every part that tables and gates read. Not a test file."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

from harness.core.config.evaluation import Evaluation
from harness.core.config.recipe import Recipe
from harness.core.scores import EvaluationProtocol, Score, Tally
from harness.core.specs import Label, RunSpec
from harness.results.record import RunRecord

CODE = {"version": "0.1.0", "source_sha256": "ab" * 32}

EXACT = {
    "name": "exact",
    "num_streams": 1,
    "warmup": 0,
    "window": 512,
    "carried_state": True,
    "targets": "every token but the first",
    "denominator": "targets",
}


def label(**changes: Any) -> Label:
    return Label(
        **{
            "suite": "ptb-char",
            "entry": "awd-lstm",
            "profile": "quick",
            "title": "2-layer AWD-LSTM",
            "task": "Language Modelling",
            "dataset": "Penn Treebank (Character Level)",
            "metrics": ("bpc",),
            "published": "ptb-char/awd-lstm",
            **changes,
        }
    )


def recipe(**changes: Any) -> Recipe:
    return Recipe(**{"optimizer": "adam", "lr": 2e-3, "batch": 4, "bptt": 10, "epochs": 2, **changes})


def spec(**changes: Any) -> RunSpec:
    return RunSpec(
        **{
            "label": label(),
            "dataset": {"name": "ptb-char"},
            "dataset_identity": {"name": "ptb-char"},
            "model": {"builder": "awd-lstm", "layers": 2, "hidden": 256, "dropout": {"input": 0.1}},
            "recipe": recipe(),
            "checkpoint": None,
            "checkpoint_sha256": None,
            "evaluation": Evaluation(),
            "seed": 1,
            "device": "cpu",
            "dtype": "float32",
            "kernel": "auto",
            **changes,
        }
    )


def score(
    value: float | None, *, split: str = "test", metric: str = "bpc", targets: int = 1000, **protocol: Any
) -> Score:
    """A score whose tally is worth `value`, which for None was not finite."""
    nats = math.nan if value is None else value * math.log(2) if metric == "bpc" else math.log(value)
    return Score(
        split=split,
        protocol=EvaluationProtocol(**{**EXACT, **protocol}),
        tally=Tally(nats * targets, targets, targets, 1),
        metrics={metric: math.nan if value is None else value},
        std_errors={metric: math.nan if value is None else 0.004},
        block_targets=256,
        block_nll_nats=[nats * min(256, targets - first) for first in range(0, targets, 256)],
        seconds=1.5,
    )


def record(value: float | None = 1.5, *, spec_: RunSpec | None = None, **changes: Any) -> RunRecord:
    """A finished run with valid 0.1 above test; `changes` replace fields of the record."""
    spec_ = spec_ or spec()
    metric = spec_.label.metrics[0]
    valid = None if value is None else value + 0.1
    return RunRecord(
        **{
            "run_id": spec_.run_id,
            "spec": spec_,
            "status": "finished",
            "started_at": "2026-01-02T03:04:05+00:00",
            "seconds": 12.5,
            "code": CODE,
            "machine": {"device_name": "Some CPU", "fingerprint": "Some CPU | 2 cores | 2 threads"},
            "data": {"name": "ptb-char", "limits": {}},
            "model": {"builder": "awd-lstm", "num_parameters": 13_787_650},
            "training": {"tokens": 1000, "seconds": 10.0, "tokens_per_s": 100.0},
            "scores": [score(valid, split="valid", metric=metric), score(value, metric=metric)],
            "curve": [{"step": 1, "lr": 0.1}, {"step": 2, "lr": 1e-3, "valid_nll_nats": 1.25}],
            **changes,
        }
    )


def timed(**changes: Any) -> dict[str, Any]:
    """A row of a kernel's time, as `harness.timing.backends` makes them."""
    return {
        "op": "fo_pool",
        "backend": "native",
        "case": "T150-B128-H1024",
        "direction": "forward",
        "dtype": "float32",
        "status": "ok",
        "error": None,
        "ms": 25.04,
        "ms_warm": None,
        "gb_per_s": 15.7,
        "share_of_copy": 0.52,
        "share_of_triad": 0.49,
        "gflop_per_s": None,
        "share_of_gemm": None,
        "speedup_over_chain": 12.3,
        **changes,
    }


def failed(status: str = "failed", error: str = "out of memory at step 12", **changes: Any) -> RunRecord:
    return record(status=status, error=error, scores=[], **changes)


def labelled(*records: RunRecord) -> list[tuple[RunRecord, list[Label]]]:
    """Records with their own labels, as `Store.records` returns them."""
    return [(each, [each.spec.label]) for each in records]


def num_calls(work: Callable[[], object]) -> int:
    """Calls of Python functions and steps of generators: a measure of work that no busy machine moves."""
    num = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal num
        num += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return num
