from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from record_factory import spec

from harness.system.source import SourceVersion
from harness.worker import job
from harness.worker.job import RunJob, Train, parse_event

TRAIN = Train(tokens=5, total_tokens=9, loss=2.5, best=None, seconds=0.5, now={"cpu_percent": 3.0})


def test_a_job_survives_its_line() -> None:
    made = RunJob(spec=spec(), prepared=Path("p"), results=Path("r"), code=SourceVersion("1", "ab"), left_s=2.5)
    line = made.model_dump_json()
    assert "\n" not in line
    assert RunJob.model_validate_json(line) == made


@pytest.mark.parametrize("event", [TRAIN, job.Resumed(tokens=3, step=1, thread_counts=(1, 2))])
def test_an_event_survives_its_line(event: Any) -> None:
    assert parse_event(event.model_dump_json() + "\n") == event


def test_a_loss_that_is_no_number_is_null() -> None:
    event = parse_event(TRAIN.model_copy(update={"loss": math.nan}).model_dump_json())
    assert isinstance(event, Train)
    assert event.loss is None


@pytest.mark.parametrize("line", ["", "{", TRAIN.model_dump_json()[:20], '{"event": "other"}', "[]"])
def test_a_line_cut_short_by_a_kill_is_no_event(line: str) -> None:
    assert parse_event(line) is None
