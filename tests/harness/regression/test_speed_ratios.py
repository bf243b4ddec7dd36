"""The gate with made-up ratios: what fails, what passes, and what cannot be compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import NotComparableError, StoreError
from harness.regression import speed_ratios
from harness.regression.speed_ratios import Baseline, Expected, judge, make, merge, threshold
from harness.timing.backends import KernelTiming

STILL = (1.0, 1.0, 1.0, 1.0)
NATIVE = Expected("fo_pool", "T4-B2-H3", "float32", "forward", "native", 0.1)
BASE = Baseline(schema=1, fingerprint="Some CPU", rows=(NATIVE,))


def row(ratio: float | None = 0.1, backend: str = "native", **changes: Any) -> KernelTiming:
    base = KernelTiming(
        op="fo_pool", case="T4-B2-H3", dtype="float32", direction="forward", backend=backend, device="cpu", status="ok",
        error=None, ratio_to_reference=ratio, ratio_samples=[ratio] * 4,
    )  # fmt: skip
    return replace(base, **changes)


def session(ratio: float | None, twin: Any = STILL, **changes: Any) -> list[KernelTiming]:
    return [
        row(ratio, **changes),
        row(1.0, "reference"),
        row(1.0, "chain"),
        row(1.0, speed_ratios.TWIN, ratio_samples=list(twin)),
    ]


class Again:
    """Further measurements, in order; says how many were asked for."""

    def __init__(self, *ratios: float, twin: Any = STILL) -> None:
        self.sessions = [session(ratio, twin) for ratio in ratios]
        self.asked = 0

    def __call__(self, op: str, case: str) -> list[KernelTiming]:
        assert (op, case) == ("fo_pool", "T4-B2-H3")
        self.asked += 1
        return self.sessions[self.asked - 1]


@pytest.mark.parametrize(
    ("first", "more", "verdict", "asked"),
    [
        (0.100, (), "pass", 0),
        (0.105, (), "pass", 0),
        (0.090, (), "improved", 0),
        (0.120, (0.100, 0.100), "pass", 2),
        (0.120, (0.100, 0.120), "regression", 2),
        (0.120, (0.120,), "regression", 1),
    ],
)
def test_a_row_fails_only_where_two_of_three_measurements_are_too_slow(
    first: float, more: tuple[float, ...], verdict: str, asked: int
) -> None:
    again = Again(*more)
    report = judge(BASE, session(first), again)
    [judged] = report.rows
    assert (judged.verdict, again.asked) == (verdict, asked)
    assert judged.found == (first, *more[:asked])
    assert report.exit_code == (1 if verdict == "regression" else 0)


def test_a_restless_machine_widens_what_is_allowed() -> None:
    restless = (0.8, 1.0, 1.0, 1.3, 0.9, 1.2, 1.1)
    assert judge(BASE, session(0.12, restless), Again()).rows[0].verdict == "pass"
    assert judge(BASE, session(0.14, restless), Again(0.14, twin=restless)).rows[0].verdict == "regression"


WILD = (0.5, 0.6, 1.0, 1.8, 2.0)


@pytest.mark.parametrize(
    ("ratios", "twins", "verdict"),
    [
        ((0.9, 0.1), (WILD, STILL), "pass"),
        ((0.9, 0.3, 0.3), (WILD, STILL, STILL), "regression"),
        ((0.3, 0.1, 0.3), (STILL, WILD, STILL), "regression"),
        ((0.3, 0.1, 0.1), (STILL, WILD, STILL), "not comparable"),
        # The threshold of the wild pair is 3: a kernel three times slower would pass.
        ((0.3, 0.3, 0.3), (WILD, WILD, WILD), "not comparable"),
        ((0.1, 0.1, 0.1), ([1.26] * 5,) * 3, "not comparable"),
        ((0.125,), ([1.25] * 5,), "pass"),
    ],
)
def test_a_restless_measurement_counts_for_nothing_and_is_taken_again(
    ratios: tuple[float, ...], twins: tuple[tuple[float, ...], ...], verdict: str
) -> None:
    first, *more = (session(ratio, twin) for ratio, twin in zip(ratios, twins, strict=True))
    report = judge(BASE, first, lambda op, case: more.pop(0))
    assert [judged.verdict for judged in report.rows] == [verdict]
    assert not more


def test_the_threshold_is_the_floor_the_pairs_median_or_their_spread() -> None:
    assert threshold(()) == speed_ratios.FLOOR
    assert threshold(STILL) == speed_ratios.FLOOR
    assert threshold([1.1] * 5) == pytest.approx(1.1)
    assert threshold([1 / 1.2] * 5) == pytest.approx(1.2)
    assert threshold([0.5, 0.9, 1.0, 1.08, 2.0]) == pytest.approx(1.08 / 0.9)


def test_a_wrong_kernel_is_a_regression_whether_or_not_the_baseline_knows_it() -> None:
    wrong = session(None, status="failed", error="h is off by 0.2")
    assert judge(BASE, wrong, Again()).rows[0].reason == "h is off by 0.2"
    unknown = replace(BASE, rows=(Expected("lstm", "T4-B2-H3", "float32", "forward", "fused", 1.0),))
    report = judge(unknown, wrong, Again())
    assert [judged.verdict for judged in report.rows] == ["regression"]
    assert report.exit_code == 1


def test_a_backend_that_is_gone_or_cannot_run_cannot_be_compared() -> None:
    gone = [each for each in session(0.1) if each.backend != "native"]
    assert judge(BASE, gone, Again()).exit_code == 3
    unavailable = session(None, status="unavailable", error="needs a compiler")
    report = judge(BASE, unavailable, Again())
    assert (report.rows[0].verdict, report.rows[0].reason) == ("not comparable", "needs a compiler")


def test_cases_that_were_not_measured_are_left_out_and_new_rows_are_said() -> None:
    report = judge(BASE, session(0.1, case="T9-B9-H9") + session(0.1), Again())
    assert [judged.verdict for judged in report.rows] == ["pass", "new"]
    other = judge(BASE, [replace(each, case="T9-B9-H9") for each in session(0.1)], Again())
    assert [judged.verdict for judged in other.rows] == ["new"]
    assert other.exit_code == 0


def test_the_table_shows_what_was_measured() -> None:
    measured = judge(BASE, [row(0.2, case="T9-B9-H9"), *session(0.12)], Again(0.1234)).render().splitlines()
    _, rule, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in measured[:4])
    assert "".join("r" if cell.endswith(":") else "l" for cell in rule) == "lllllrrrll"
    slower = "slower by 1.23 than the baseline, 2 times of 2"
    assert rows == [
        [*NATIVE.identity, "0.100", "0.105", "0.120, 0.123", "regression", slower],
        ["fo_pool", "T9-B9-H9", "float32", "forward", "native", "—", "—", "0.200", "new", "not in the baseline"],
    ]
    assert measured[-1] == "1 regression, 1 new"
    once = judge(BASE, session(0.12), Again(0.1, 0.1)).rows[0]
    assert (once.reason, once.allowed) == ("too slow once in 3", pytest.approx(0.105))


def test_another_machine_is_skipped_and_said() -> None:
    report = speed_ratios.skipped(BASE, "Other CPU")
    assert report.exit_code == 0
    assert "other hardware: Other CPU, was Some CPU" in report.render()
    assert report.render().endswith("1 skipped")


def test_a_baseline_holds_the_ratios_of_backends_and_survives_the_disk(tmp_path: Path) -> None:
    made = make("Some CPU", session(0.1) + session(None, case="T1-B1-H1", status="failed", error="wrong"))
    assert made == BASE
    path = tmp_path / "deep" / "baseline.json"
    speed_ratios.write(path, made)
    assert speed_ratios.read(path) == BASE
    with pytest.raises(NotComparableError, match="nothing to make a baseline of"):
        make("Some CPU", [row(1.0, "reference")])
    speed_ratios.write(path, replace(BASE, rows=()))
    with pytest.raises(NotComparableError, match="has no rows"):
        speed_ratios.read(path)
    path.unlink()
    with pytest.raises(StoreError, match="make one with --update"):
        speed_ratios.read(path)


def test_an_update_keeps_other_cases_of_the_same_machine() -> None:
    other = make("Some CPU", session(0.2, case="T9-B9-H9") + session(0.3))
    merged, elsewhere = merge(BASE, other), replace(other, fingerprint="Other CPU")
    assert [(each.case, each.ratio) for each in merged.rows] == [("T4-B2-H3", 0.3), ("T9-B9-H9", 0.2)]
    assert merge(BASE, elsewhere) == elsewhere
    assert merge(None, BASE) == BASE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not a baseline of kernels"),
        ("[]", "is not a baseline of kernels"),
        ("{}", "schema is missing"),
        ('{"schema": 2, "rows": [], "fingerprint": "x"}', "schema must be 1, got 2"),
        ('{"schema": 1, "rows": [{"op": "x"}], "fingerprint": "x"}', "missing"),
        ('{"schema": 1, "rows": [], "fingerprint": 3}', "fingerprint must be text, got 3"),
        (
            '{"schema": 1, "fingerprint": "x", "rows": [{"op": "a", "case": "b", "dtype": "c", "direction": "d", '
            '"backend": "e", "ratio": 0}]}',
            "rows.0.ratio is not valid",
        ),
    ],
)
def test_a_damaged_baseline_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(StoreError, match="baseline") as caught:
        speed_ratios.read(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
