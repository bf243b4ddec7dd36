"""Plans of seeds and text from records."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from invoking import call

RESULTS = Path(__file__).parents[4] / "results"
SUITES = RESULTS.parent / "suites"


def plans(
    size: float, suite: str = "ptb-char", profile: str = "quick", results: Path = RESULTS
) -> list[dict[str, object]]:
    arguments = ("--profile", profile, "--results", results, "--detect", size, "--json")
    done = call("describe", SUITES / f"{suite}.yaml", *arguments)
    assert done.exit_code == 0, done.output
    rows: list[dict[str, object]] = json.loads(done.stdout)
    return rows


def test_two_committed_runs_need_three_quarters_of_the_text(tmp_path: Path) -> None:
    for run_id in ("ptb-char-awd-lstm-s1-2053d36935", "ptb-char-qrnn-s1-6d56146c40"):
        shutil.copytree(RESULTS / "runs" / run_id, tmp_path / "runs" / run_id)
    small, other = (plan for plan in plans(0.005, results=tmp_path) if plan["against"])
    assert (small["entry"], small["against"], other["against"]) == ("awd-lstm", "qrnn", "awd-lstm")
    assert small["texts"] == pytest.approx(0.74, abs=0.02)
    assert (small["num_seeds"], small["seeds"], small["reason"]) == (1, None, "a side has one seed")
    # The error falls with the root of the text.
    assert plans(0.01, results=tmp_path)[0]["texts"] == pytest.approx(small["texts"] / 4, rel=0.15)


def test_no_run_is_said() -> None:
    assert plans(0.005, profile="full")[0]["reason"] == "the results hold no finished run of it"
