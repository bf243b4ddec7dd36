"""Every file that the harness reads back, with any JSON at any place: it is read, set aside or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hostile_json import any_json, changed, json_text, paths, without
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_factory import recipe, record, score

from harness.checkpoints import format
from harness.core.errors import HarnessError
from harness.core.hashing import with_digest
from harness.data import manifest
from harness.monitoring.costs.attempts import Attempts
from harness.monitoring.sampler import trace
from harness.regression import baseline, speed_ratios
from harness.regression.check import update
from harness.results.store import Store
from harness.runs import planning
from harness.runs.schedule import Schedule
from harness.worker.partial_scores import PartialScores

FILE = {"file": "x.bin", "bytes": 3, "sha256": "0" * 64}
SPLITS = ("train", "valid", "test")
MANIFEST = {
    "format": 1, "name": "x", "unit": "byte", "event_space": "bytes", "identity": {"name": "x"}, "sources": [FILE],
    "counts": {split: {"tokens": 3, "units": 3} for split in SPLITS}, "alphabet_size": 2, "dtype": "uint8",
    "byte_order": "little", "ids": dict.fromkeys(SPLITS, FILE), "vocabulary_sha256": "0", "limits": {"bpc": 1.0},
}  # fmt: skip
INDEX = {
    "schema": 1, "files": {"model": {"file": "x.safetensors", "sha256": "0"}}, "vocabulary": ["a"], "unit": "char",
    "identity": {"seed": 1}, "progress": {"step": 1}, "window_rng": {"state": {"state": (1 << 128) - 1}},
}  # fmt: skip
EXPECTED = {"op": "a", "case": "b", "dtype": "c", "direction": "d", "backend": "e", "ratio": 0.5}
SCHEDULE = Schedule.of(recipe()).model_dump(mode="json", by_alias=True)
PLAN = {
    "schema": 3, "of": "x", "code": {}, "asked_seconds": 60.0, "expected_seconds": 50.0, "margin": 0.1,
    "rates": {"source": "given", "train_tokens_per_s": 5.0}, "factor": 1.0, "original": SCHEDULE, "scaled": SCHEDULE,
}  # fmt: skip
ATTEMPT = {"started_at": "2026-01-02", "seconds": 1.5, "status": "running", "costs": None, "machine": "x"}
STATUS = {"nvml": {"status": "off", "reason": "no GPU", "quantities": {}, "details": {}}}


def read_attempts(path: Path) -> None:
    attempts = Attempts(path.parent)
    attempts.machines()
    attempts.begin("now")


def read_scores(path: Path) -> None:
    PartialScores(path.parent, "x").find("exact", "test")


def made_baseline(folder: Path) -> Any:
    Store(folder).write(record(1.5))
    update(folder, folder / "b.json")
    return json.loads((folder / "b.json").read_text())


Case = tuple[str, Callable[[Path], object], Callable[[Path], Any]]
CASES: list[Case] = [
    ("baseline.json", baseline.read, made_baseline),
    ("kernels.json", speed_ratios.read, lambda _: {"schema": 1, "fingerprint": "x", "rows": [EXPECTED]}),
    ("plan.json", planning.read, lambda _: PLAN),
    ("manifest.json", manifest.read, lambda _: with_digest(MANIFEST)),
    ("checkpoint.json", lambda path: format.read_index(path.parent), lambda _: INDEX),
    ("attempts.json", read_attempts, lambda _: [ATTEMPT]),
    ("sensors.json", trace.read_status, lambda _: STATUS),
    ("scores.json", read_scores, lambda _: {"of": "x", "rows": [asdict(score(1.5))]}),
]


@pytest.mark.parametrize(("name", "read", "make"), CASES, ids=[name for name, _, _ in CASES])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_json_is_read_or_refused_in_one_line(
    tmp_path: Path, name: str, read: Callable[[Path], object], make: Callable[[Path], Any], data: st.DataObject
) -> None:
    whole, path = tmp_path / "whole", tmp_path / name
    if not whole.exists():
        whole.write_text(json_text(make(tmp_path / "results")))
        path.write_bytes(whole.read_bytes())
        read(path)  # the whole one is fine
    body = json.loads(whole.read_text())
    place = data.draw(st.sampled_from([(), *paths(body)]))
    value = data.draw(any_json())
    body = value if not place else without(body, place) if value is None else changed(body, place, value)
    # With the digest of the changed content: the checks behind that of the digest must hold by themselves.
    if isinstance(body, dict) and isinstance(body.get("digest"), str):
        with suppress(ValueError):  # no digest of a number that JSON cannot hold
            body = with_digest(body)
    path.write_text(json_text(body))
    problem = None
    try:
        read(path)
    except HarnessError as error:
        problem = str(error)
    assert problem is None or (str(path) in problem and "\n" not in problem)
