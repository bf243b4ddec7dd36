"""Tries at a run survive their worker, and a killed one is told from one that ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.monitoring.costs.attempts import Attempts


def test_an_interrupted_try_is_remembered_with_its_costs(tmp_path: Path) -> None:
    first = Attempts(tmp_path)
    first.begin("monday")
    first.end(2.5, "interrupted", {"phases": {}})
    second = Attempts(tmp_path)
    second.begin("tuesday")
    second.end(3.5, "finished", None)
    assert [(row["started_at"], row["seconds"], row["status"]) for row in second.for_record()] == [
        ("monday", 2.5, "interrupted"),
        ("tuesday", 3.5, "finished"),
    ]
    assert second.for_record()[0]["costs"] == {"phases": {}}


def test_a_try_that_never_said_how_it_went_was_killed(tmp_path: Path) -> None:
    Attempts(tmp_path).begin("monday")
    found = Attempts(tmp_path)
    assert found.rows == [{"started_at": "monday", "seconds": None, "status": "killed", "costs": None}]
    found.recover(1, 7.0, {"phases": {}})
    found.begin("tuesday")
    assert [row["status"] for row in Attempts(tmp_path).rows] == ["killed", "killed"]
    assert Attempts(tmp_path).rows[0]["seconds"] == 7.0


def test_what_a_process_had_spent_before_its_watch_goes_to_its_costs(tmp_path: Path) -> None:
    startup = {"seconds": 4.0, "cpu_seconds": 3.0}
    Attempts(tmp_path).begin("monday", startup)
    killed = Attempts(tmp_path)
    assert killed.rows[0]["startup"] == startup
    killed.recover(1, 7.0, {"phases": {}})
    assert killed.rows[0]["costs"] == {"phases": {}, "startup": startup}
    killed.begin("tuesday", startup)
    killed.end(1.0, "finished", {"startup": {"seconds": 4.1, "cpu_seconds": 3.0}})
    assert [row.get("startup") for row in Attempts(tmp_path).rows] == [None, None]


def test_each_try_has_a_folder_of_its_own_for_its_sensors(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    for _ in range(2):
        attempts.begin("now")
    assert attempts.sensors() == attempts.sensors(2) != attempts.sensors(1)


def test_a_single_try_does_not_repeat_the_records_costs(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    attempts.begin("now")
    attempts.end(1.0, "finished", {"phases": {}})
    assert attempts.for_record() == [{"started_at": "now", "seconds": 1.0, "status": "finished"}]


@pytest.mark.parametrize("text", ["[3]", "not json", '{"a": 1}', "3"])
def test_a_damaged_history_costs_no_run(tmp_path: Path, text: str) -> None:
    (tmp_path / "attempts.json").write_text(text)
    attempts = Attempts(tmp_path)
    attempts.begin("now")
    assert [row["started_at"] for row in attempts.rows] == ["now"]


def test_the_machines_of_all_tries_are_known_each_once(tmp_path: Path) -> None:
    for name in ("a | 2 cores", None, "b | 4 cores", "a | 2 cores"):
        attempts = Attempts(tmp_path)
        attempts.begin("now")
        if name is not None:
            attempts.on(name)
    assert Attempts(tmp_path).machines() == ["a | 2 cores", "b | 4 cores"]
