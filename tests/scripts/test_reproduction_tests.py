"""Tests of a device, group by group: what counts as proven, and what is done without."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.code import ROOT
from harness.speed import Speed
from kernels import KERNELS

WITHOUT_PLUGINS = ["-p", "no:xdist", "-p", "no:timeout", "-p", "no:benchmark"]
"""As on a machine that lacks what the project's own options of pytest need."""


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("reproduction_tests")


def report(*cases: str) -> str:
    """Pytest's own, of cases that passed, failed or were skipped."""
    inside = {"passed": "", "failed": "<failure/>", "skipped": "<skipped/>", "broken": "<error/>"}
    body = "".join(f'<testcase name="{each}{n}">{inside[each]}</testcase>' for n, each in enumerate(cases))
    return f"<testsuites><testsuite>{body}</testsuite></testsuites>"


class Pytest:
    """Answers for each group with an exit status and, where it lives to write one, a report."""

    def __init__(self, answers: dict[str, tuple[int, str | None]], *, missing: bool = False) -> None:
        self.answers, self.missing = answers, missing
        self.limits: list[float] = []

    def __call__(self, command: Sequence[str], limit_s: float) -> int:
        if "-c" in command:
            return int(self.missing)
        self.limits.append(limit_s)
        path = Path(next(part for part in command if part.startswith("--junitxml=")).partition("=")[2])
        assert path.is_absolute()
        status, text = self.answers.get(path.stem.removeprefix("tests-"), (0, report("passed")))
        if text is not None:
            path.write_text(text)
        return status


def proven(room: ModuleType, folder: Path, asked: Callable[..., int], step_s: float = 0.0) -> dict[str, Any]:
    times = iter(range(10_000))
    found: dict[str, Any] = room.prove(asked, folder, lambda: step_s * next(times))
    return found


@pytest.mark.parametrize(
    ("status", "text", "outcome", "failed"),
    [
        (0, report("passed", "skipped"), "passed", []),
        (0, report("skipped", "skipped"), "not run", []),
        (1, report("passed", "failed", "broken"), "failed", ["failed1", "broken2"]),
        (5, report(), "not run", []),
        (4, None, "not run", []),
        (2, report("broken"), "not run", ["broken0"]),
        (-15, None, "timed out", []),
        (-9, None, "timed out", []),
        (-11, None, "failed", []),
    ],
)
def test_only_tests_that_ran_prove_anything(
    room: ModuleType, tmp_path: Path, status: int, text: str | None, outcome: str, failed: list[str]
) -> None:
    found = proven(room, tmp_path, Pytest({"graph": (status, text)}))
    assert (found["graph"]["outcome"], found["graph"]["failed"]) == (outcome, failed)
    assert {each["outcome"] for name, each in found.items() if name != "graph"} == {"passed"}
    after = room.consequences(found)
    assert ("graph" in after["barred"]) == (outcome in ("failed", "timed out"))
    assert after["unproven"] == (["graph"] if outcome == "not run" else [])


def test_a_report_of_an_earlier_leg_is_not_taken_for_this_ones(room: ModuleType, tmp_path: Path) -> None:
    proven(room, tmp_path, Pytest({"graph": (1, report("failed"))}))
    found = proven(room, tmp_path, Pytest({"graph": (-15, None)}))
    assert found["graph"]["failed"] == []


@pytest.mark.parametrize(
    ("failing", "barred", "instead"),
    [
        (["fo_pool"], [], {"fo_pool": "reference"}),
        (["padded"], [], {"lstm": "fused"}),
        (["padded", "lstm"], [], {"lstm": "reference"}),
        (["weight_drop", "padded"], [], {"lstm": "reference", "fo_pool": "reference"}),
        (["graph"], ["graph"], {}),
        (["rest"], [], {}),
    ],
)
def test_a_failure_bars_what_it_tested_and_nothing_else(
    room: ModuleType, tmp_path: Path, failing: list[str], barred: list[str], instead: dict[str, str]
) -> None:
    found = proven(room, tmp_path, Pytest(dict.fromkeys(failing, (1, report("failed")))))
    after = room.consequences(found)
    assert (list(after["barred"]), after["instead"]) == (barred, instead)
    assert len(after["loud"]) == len(failing)
    assert all("failed0" in line for line in after["loud"])


def test_without_pytest_nothing_is_proven_and_nothing_barred(room: ModuleType, tmp_path: Path) -> None:
    after = room.consequences(proven(room, tmp_path, Pytest({}, missing=True)))
    assert "graph" in after["unproven"]
    assert (after["barred"], after["instead"], after["loud"]) == ({}, {}, [])


def test_all_groups_together_have_a_limit(room: ModuleType, tmp_path: Path) -> None:
    """Every look at the clock is 50 s after the one before."""
    asked = Pytest({})
    found = proven(room, tmp_path, asked, step_s=50.0)
    outcomes = [each["outcome"] for each in found.values()]
    assert outcomes == ["passed"] * 4 + ["not run"] * 2
    assert asked.limits == [*(group.seconds for group in room.GROUPS[:3]), 10.0]


def test_what_is_done_without_is_there(room: ModuleType) -> None:
    for group in room.GROUPS:
        assert all(hasattr(Speed(), name) for name in group.bars)
        assert all(backend in KERNELS[op] for op, backend in group.instead.items())


def test_every_test_is_found_by_a_pytest_without_plugins(room: ModuleType) -> None:
    names = [test for group in room.GROUPS for test in group.tests]
    command = [sys.executable, "-m", "pytest", *WITHOUT_PLUGINS, *room.OPTIONS, "--collect-only", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    for name in names:
        assert name in done.stdout
    assert "test_fo_pool_native" not in done.stdout, "slow, and of a processor"


def test_a_test_stands_in_one_group(room: ModuleType) -> None:
    """One of captured steps must not have a kernel replaced, nor one of sizes that no step has."""
    named = [(group, test) for group in room.GROUPS for test in group.tests]
    for group, test in named:
        for other, whole in named:
            if other is not group and test.startswith(f"{whole}::"):
                assert test in other.without
    assert len({test for _, test in named}) == len(named)


def test_reports_are_found_from_wherever_pytest_runs(
    room: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert proven(room, Path("out/logs"), Pytest({}))["graph"]["outcome"] == "passed"
