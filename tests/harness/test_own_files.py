"""Every file that the harness writes for itself carries a digest: a changed byte is noticed or changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from record_factory import record, score, spec

from harness.checkpoints import format
from harness.core.errors import HarnessError
from harness.core.hashing import has_digest, with_digest
from harness.monitoring.costs.attempts import Attempts
from harness.monitoring.sampler import trace
from harness.monitoring.sensors import SensorStatus
from harness.results.store import Store
from harness.runs import planning, rerun
from harness.worker.partial_scores import PartialScores

REFUSED = "refused"


def labels(folder: Path) -> Any:
    store = Store(folder)
    if not (folder / "runs").exists():
        store.write(record())
    return [labels for _, labels in store.records()] or REFUSED


def index(folder: Path) -> Any:
    if not folder.exists():
        meta = {"model": {"builder": "lstm", "hidden": 8}, "progress": {"best": float("nan"), 3: 1}}
        format.save(folder, {"model": {"w": torch.ones(1)}}, meta)
    read = format.read_index(folder)
    # By its text: NaN is not equal to itself.
    return json.dumps([read.model, str(read.files), read.training["progress"]])


def attempts(folder: Path) -> Any:
    if not folder.exists():
        Attempts(folder).begin("monday")
    return Attempts(folder).rows or REFUSED


def scores(folder: Path) -> Any:
    if not folder.exists():
        PartialScores(folder, "of").add(score(1.5))
    return PartialScores(folder, "of").content.rows or REFUSED


def sensors(folder: Path) -> Any:
    if not folder.exists():
        trace.write_status(folder / trace.NAME, {"nvml": SensorStatus("lost", "no GPU")})
    return trace.read_status(folder / trace.NAME) or REFUSED


def repeat(folder: Path) -> Any:
    store = Store(folder)
    if not (folder / "repeats").exists():
        store.write(record())
        rerun.start([spec()], store).begin(spec())
        # Another record: a repeat that starts again would note this one.
        store.write(record(started_at="2026-02-02T03:04:05+00:00"))
    read = rerun.start([spec()], store)
    return read.runs if read.runs[spec().run_id].begun else REFUSED


def plan(folder: Path) -> Any:
    budget = planning.TimeBudget(seconds=30.0, tokens_per_s=1e3)
    path = planning.plan_path(folder, spec(), budget)
    if not path.exists():
        planning.plan_specs([spec()], budget, {"train": 5000, "valid": 500}, Store(folder), lambda *_: 1.0)
    read = planning.read(path)
    return read.of, read.scaled, read.rates, read.expected_seconds


FILES: dict[str, Callable[[Path], Any]] = {
    "runs/*/labels.json": labels,
    "checkpoint.json": index,
    "attempts.json": attempts,
    "scores.json": scores,
    "sensors.json": sensors,
    "repeats/*.json": repeat,
    "plans/*.json": plan,
}


def again(use: Callable[[Path], Any], folder: Path, path: Path, content: bytes) -> Any:
    """What is read of another content, which is put back."""
    sound = path.read_bytes()
    path.write_bytes(content)
    try:
        return use(folder)
    except HarnessError:
        return REFUSED
    finally:
        path.unlink(missing_ok=True)
        path.write_bytes(sound)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_is_noticed_or_changes_nothing(tmp_path: Path, name: str) -> None:
    use, folder = FILES[name], tmp_path / "made"
    sound = use(folder)
    [path] = folder.glob(name)
    text = path.read_bytes()
    body = json.loads(text)
    assert has_digest(body)
    places = range(0, len(text), max(1, len(text) // 150))
    for place in places:
        changed = text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :]
        assert again(use, folder, path, changed) in (REFUSED, sound), changed
    # A changed digit leaves a file that can be read as well as before.
    digits = [place for place in range(len(text)) if text[place : place + 1].isdigit()]
    for place in digits[:: max(1, len(digits) // 30)]:
        changed = text[:place] + bytes([48 + (text[place] - 47) % 10]) + text[place + 1 :]
        assert again(use, folder, path, changed) == REFUSED, changed


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_an_older_version_without_a_digest_is_read(tmp_path: Path, name: str) -> None:
    use, folder = FILES[name], tmp_path / "made"
    sound = use(folder)
    [path] = folder.glob(name)
    body = json.loads(path.read_text())
    del body["digest"]
    old = body["rows"] if body.keys() == {"rows"} else body
    assert again(use, folder, path, json.dumps(old).encode()) == sound


def test_labels_without_a_digest_are_a_remark(tmp_path: Path) -> None:
    labels(tmp_path)
    [path] = tmp_path.glob("runs/*/labels.json")
    path.write_text(json.dumps(json.loads(path.read_text())["rows"]))
    store = Store(tmp_path)
    store.records()
    assert store.remarks == ["1 file labels.json without a digest, from before there was one"]


def test_the_digest_is_of_the_values_in_the_file() -> None:
    body = json.loads(json.dumps(with_digest({"a": [1, 2.0, None], "b": {"é": "x"}})))
    assert has_digest(body)
    for other in ({**body, "a": [1, 2, None]}, {**body, "c": 1}, {**body, "digest": ""}):
        with suppress(ValueError):
            pytest.fail(f"{has_digest(other)} for {other}")
