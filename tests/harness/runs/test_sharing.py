"""Runs that several processes cannot share are refused in one line before any of them starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from invoking import call
from jobs import SUITE

from harness.core.config.speed import Speed
from harness.core.errors import HarnessError
from harness.core.specs import RunSpec
from harness.runs.sharing import check_shares
from harness.suite import load, resolve


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    path = tmp_path / "small.yaml"
    path.write_text(SUITE, encoding="utf-8")
    [only] = resolve(load(path), device="cpu")
    return only


def test_equal_shares_and_runs_without_a_recipe_are_accepted(spec: RunSpec) -> None:
    check_shares([spec, replace(spec, recipe=None)], 4, measures_speed=False, on_cluster=False)
    check_shares([replace(spec, recipe=None)], 3, measures_speed=False, on_cluster=False)
    check_shares(
        [replace(spec, speed=Speed(graph=True))], 2, measures_speed=False, on_cluster=False
    )  # no effect on a CPU


def test_what_cannot_be_shared_is_refused(spec: RunSpec) -> None:
    with pytest.raises(HarnessError, match=r"entries\.qrnn\.recipe\.batch of 8 streams .* among 3 processes"):
        check_shares([spec], 3, measures_speed=False, on_cluster=False)
    with pytest.raises(HarnessError, match="a model from outside"):
        check_shares([replace(spec, model_source={"sha256": "0"})], 2, measures_speed=False, on_cluster=False)
    with pytest.raises(HarnessError, match=r"speed\.graph"):
        check_shares([replace(spec, speed=Speed(graph=True), device="cuda")], 2, measures_speed=False, on_cluster=False)
    assert spec.recipe is not None
    by_occurrence = replace(spec, recipe=replace(spec.recipe, clip_embedding="occurrences"))
    with pytest.raises(HarnessError, match=r"clip_embedding: occurrences is for one process"):
        check_shares([by_occurrence], 2, measures_speed=False, on_cluster=False)
    with pytest.raises(HarnessError, match="--tokens-per-s"):
        check_shares([spec], 2, measures_speed=True, on_cluster=False)


def test_the_command_says_so_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SUITE, encoding="utf-8")
    result = call("run", path, "--results", tmp_path / "results", "--processes", 3)
    assert result.exit_code == 2
    assert "batch of 8 streams cannot be divided equally among 3 processes" in result.output
    assert not (tmp_path / "results" / "runs").exists()
