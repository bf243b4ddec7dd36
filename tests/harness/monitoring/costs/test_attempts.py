"""The history of attempts survives its worker, and a killed attempt differs from one that ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.monitoring.costs.attempts import Attempts
from harness.results.costs import AttemptCosts, Startup

COSTS = AttemptCosts(phases={})


def test_an_interrupted_attempt_is_kept_with_its_costs(tmp_path: Path) -> None:
    first = Attempts(tmp_path)
    first.begin("monday")
    first.end(2.5, "interrupted", COSTS)
    monday = {"started_at": "monday", "seconds": 2.5, "status": "interrupted"}
    assert [row.to_json() for row in first.for_record()] == [monday], "the record has the costs of a single attempt"
    second = Attempts(tmp_path)
    second.begin("tuesday")
    second.end(3.5, "finished", None)
    assert [row.to_json() for row in second.for_record()] == [
        {**monday, "costs": {"phases": {}}},
        {"started_at": "tuesday", "seconds": 3.5, "status": "finished", "costs": None},
    ]
    assert second.sensors() == second.sensors(2) != second.sensors(1)


def test_an_attempt_without_an_end_was_killed_and_its_startup_moves_to_its_costs(tmp_path: Path) -> None:
    startup = Startup(seconds=4.0, cpu_seconds=3.0)
    Attempts(tmp_path).begin("monday", startup)
    killed = Attempts(tmp_path)
    killed.begin("tuesday", startup)
    assert [row.status for row in Attempts(tmp_path).rows] == ["killed", "killed"]
    row = {"started_at": "monday", "seconds": None, "status": "killed", "costs": None}
    assert killed.rows[0].to_json() == {**row, "startup": startup.to_json()}
    killed.recover(1, 7.0, COSTS)
    assert (killed.rows[0].seconds, killed.rows[0].costs) == (7.0, AttemptCosts(phases={}, startup=startup))
    killed.end(1.0, "finished", AttemptCosts(startup=Startup(seconds=4.1, cpu_seconds=3.0)))
    assert ["startup" in row for row in json.loads((tmp_path / "attempts.json").read_text())["rows"]] == [False, False]


def test_the_machines_of_all_attempts_are_known_each_once(tmp_path: Path) -> None:
    for name in ("a | 2 cores", None, "b | 4 cores", "a | 2 cores"):
        attempts = Attempts(tmp_path)
        attempts.begin("now")
        if name is not None:
            attempts.set_machine(name)
    assert Attempts(tmp_path).machines() == ["a | 2 cores", "b | 4 cores"]


@pytest.mark.parametrize(
    "text", ["", "{", "{}", "[3]", '[{"seconds": 1.0}]', "[" * 100_000, '[{"status": 5}]', "\x00\xff"]
)
def test_a_damaged_history_is_moved_aside_and_named(tmp_path: Path, text: str) -> None:
    for number in (1, 2):
        (tmp_path / "attempts.json").write_text(text, encoding="latin-1")
        trace = tmp_path / "sensors" / "1" / "trace.csv"
        trace.parent.mkdir(parents=True)
        trace.write_text("old")

        attempts = Attempts(tmp_path)
        aside = tmp_path / f"damaged-attempts-{number}"
        assert attempts.rows == []
        assert attempts.problem is not None
        assert str(tmp_path / "attempts.json") in attempts.problem
        assert aside.name in attempts.problem
        assert "\n" not in attempts.problem
        assert "Error" not in attempts.problem
        assert (aside / "attempts.json").read_text(encoding="latin-1") == text
        assert (aside / "sensors" / "1" / "trace.csv").read_text() == "old"

        attempts.begin("tuesday")
        again = Attempts(tmp_path)
        assert again.problem is None
        assert [row.started_at for row in again.rows] == ["tuesday"]
