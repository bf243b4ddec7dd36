"""The tests that only a GPU runs, a process for each group: what a group proves, and what is done where it fails.

A group by itself, because one wrong kernel can leave the whole process's device unusable.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

LIMIT_S = 360.0
"""All groups together; a group that is not reached proves nothing."""

PASSED, FAILED, TIMED_OUT, NOT_RUN = "passed", "failed", "timed out", "not run"
PYTEST_FAILED, TERMINATED, KILLED = 1, -15, -9

OPTIONS = (
    # The project's own options need packages that no test here needs: processes, time limits, benchmarks.
    "-o", "addopts=", "-W", "ignore::pytest.PytestConfigWarning", "-W", "ignore::pytest.PytestUnknownMarkWarning",
    "-p", "no:cacheprovider", "-q", "-m", "gpu and not slow",
)  # fmt: skip

AUTO = "tests/kernels/test_kernels.py::test_auto_on_cuda_equals_reference_on_cpu"
FO_POOL = "tests/kernels/test_fo_pool_triton_device.py"
WEIGHT_DROP = "tests/kernels/test_weight_drop_triton.py::TestOnDevice"
CAPTURED = (
    f"{WEIGHT_DROP}::test_a_captured_graph_drops_anew_at_each_replay",
    f"{WEIGHT_DROP}::test_no_call_waits_for_the_device",
)
HUGE = (
    f"{FO_POOL}::test_on_device_more_elements_than_32_bits_count",
    f"{WEIGHT_DROP}::test_more_elements_than_32_bits_count",
)


@dataclass(frozen=True)
class Group:
    """Tests that stand and fall together; of `tests` not those `without`.

    bars: switches that are not turned on where they fail. instead: op -> the backend that is used then in place of
    `auto`, which avoids what was tested. Where there is neither, a failure is only reported.
    """

    name: str
    seconds: float
    tests: tuple[str, ...]
    without: tuple[str, ...] = ()
    bars: tuple[str, ...] = ()
    instead: Mapping[str, str] = field(default_factory=dict)

    def arguments(self) -> list[str]:
        return [*self.tests, *(f"--deselect={test}" for test in self.without)]


GROUPS = (
    Group("graph", 120, ("tests/harness/test_graph.py", *CAPTURED), bars=("graph",)),
    # No layer drops weights without `auto` but one that runs its reference, which is slow and right.
    Group("weight_drop", 90, (WEIGHT_DROP, f"{AUTO}[weight_drop]"), without=(*CAPTURED, *HUGE),
          instead={"lstm": "reference", "fo_pool": "reference"}),
    Group("padded", 60, ("tests/kernels/test_lstm_padded.py",), instead={"lstm": "fused"}),
    Group("lstm", 60, (f"{AUTO}[lstm]",), instead={"lstm": "reference"}),
    Group("fo_pool", 180, (FO_POOL, f"{AUTO}[fo_pool]"), without=HUGE, instead={"fo_pool": "reference"}),
    # Sizes that no step has, and what none relies on.
    Group("rest", 90, ("tests/harness/adapt/test_dynamic.py", "tests/models/test_model_step.py", *HUGE)),
)  # fmt: skip

Watched = Callable[[Sequence[str], float], int]


def prove(watched: Watched, folder: Path, now: Callable[[], float]) -> dict[str, dict[str, Any]]:
    """Run every group; group -> `outcome`, `failed` (names of tests), `why` and `seconds`.

    watched runs a command within so many seconds and gives its exit status. folder receives pytest's own reports.
    """
    folder = folder.resolve()  # tests run in a folder of their own
    folder.mkdir(parents=True, exist_ok=True)
    if watched([sys.executable, "-c", "import hypothesis, pytest"], 60.0):
        absent = {"outcome": NOT_RUN, "failed": [], "why": "pytest or hypothesis is missing", "seconds": 0.0}
        return {group.name: dict(absent) for group in GROUPS}
    found, ends = {}, now() + LIMIT_S
    for group in GROUPS:
        began = now()
        if began >= ends:
            found[group.name] = {"outcome": NOT_RUN, "failed": [], "why": "no time was left", "seconds": 0.0}
            continue
        report = folder / f"tests-{group.name}.xml"
        report.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", *OPTIONS, f"--junitxml={report}", *group.arguments()]
        code = watched(command, min(group.seconds, ends - began))
        found[group.name] = {**_outcome(code, report), "seconds": now() - began}
    return found


def _outcome(code: int, report: Path) -> dict[str, Any]:
    """What a pytest's exit status and report say. A test run that did not come about has proven nothing either way."""
    failed, skipped, total = _told(report)
    if code in (TERMINATED, KILLED):
        return {"outcome": TIMED_OUT, "failed": failed, "why": "it was ended at its limit"}
    if code < 0 or code == PYTEST_FAILED:
        return {"outcome": FAILED, "failed": failed, "why": None if code > 0 else f"ended by signal {-code}"}
    if code == 0 and total > skipped:
        return {"outcome": PASSED, "failed": [], "why": None}
    why = "every test was skipped" if code == 0 else f"pytest ended with status {code}"
    return {"outcome": NOT_RUN, "failed": failed, "why": why}


def _told(report: Path) -> tuple[list[str], int, int]:
    """Names of failed tests, how many were skipped, and how many there were."""
    try:
        cases = list(ElementTree.parse(report).iter("testcase"))
    except (OSError, ElementTree.ParseError):
        return [], 0, 0
    failed = [str(case.get("name")) for case in cases if {child.tag for child in case} & {"failure", "error"}]
    return failed, sum(case.find("skipped") is not None for case in cases), len(cases)


def consequences(tests: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What follows for the steps.

    `barred`: switch -> why it is not turned on. `instead`: op -> backend in place of `auto`. `unproven`: groups whose
    tests were not run. `loud`: a line for each group that failed.
    """
    barred: dict[str, str] = {}
    instead: dict[str, str] = {}
    loud, unproven = [], []
    for group in GROUPS:
        outcome = tests.get(group.name, {}).get("outcome")
        if outcome == NOT_RUN:
            unproven.append(group.name)
        if outcome not in (FAILED, TIMED_OUT):
            continue
        barred.update(dict.fromkeys(group.bars, f"its tests on this device: {outcome}"))
        for op, backend in group.instead.items():
            if instead.get(op) != "reference":
                instead[op] = backend
        uses = [f"without {name}" for name in group.bars] + [f"{op}={name}" for op, name in group.instead.items()]
        names = ", ".join(tests[group.name]["failed"]) or tests[group.name]["why"] or "no test was named"
        done = f"trained {' and '.join(uses)}" if uses else "there is no way to do without"
        loud.append(f"tests of {group.name} {outcome} ({names}): {done}")
    return {"barred": barred, "instead": instead, "unproven": unproven, "loud": loud}
