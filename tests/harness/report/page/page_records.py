"""Synthetic records with every part that a page draws. Not a test file."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from record_factory import label, record, score, spec

from harness.results.store import Store


def write_records(results: Path, num_records: int) -> None:
    """Write finished runs of several models and seeds, with curves and traces.

    Args:
        results: folder to write to.
        num_records: how many runs, five seeds for each model.
    """
    store = Store(results)
    for number in range(num_records):
        model, seed = divmod(number, 5)
        value = 1.2 + 0.01 * model + 0.003 * seed
        curve = [
            {"step": 10 * k, "tokens": 1000 * k, "train_seconds": 2.0 * k, "validation_seconds": 0.1 * k,
             "valid_nll_nats": (value + 1 / k) * math.log(2), "train_nll_nats": (value + 1.1 / k) * math.log(2)}
            for k in range(1, 41)
        ]  # fmt: skip
        traces = [
            {"times_s": float(s), "phase": "load" if s < 20 else "train" if s < 260 else "evaluate",
             "cpu_percent": 50.0 + 40 * math.sin(s + number), "rss_bytes": 1e9 + 1e6 * s}
            for s in range(300)
        ]  # fmt: skip
        built = {"builder": "awd-lstm", "layers": 2, "hidden": 64 + model}
        own = label(entry=f"model-{model}", title=f"Model {model}", published=None)
        made = record(value, spec_=spec(label=own, seed=seed, model=built), curve=curve, traces=traces)
        scores = [replace(score(value + 0.1, split="valid"), seconds=1.0), score(value)]
        store.write(replace(made, scores=scores))
