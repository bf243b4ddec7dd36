"""Timed kernels as tables."""

from __future__ import annotations

import random

from record_factory import record, spec, timed

from harness.report.kernels import kernel_section, kernel_table


def body(text: str) -> list[list[str]]:
    """Cells of every table's lines but the headings and the rules below them."""
    lines = text.splitlines()
    rules = {number for number, line in enumerate(lines) if line.startswith("|:") or line.startswith("|-")}
    cells = [line for number, line in enumerate(lines) if line.startswith("|") and not {number, number + 1} & rules]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in cells]


def test_a_row_shows_shares_of_the_ceilings_and_dashes_for_what_was_not_counted() -> None:
    [line] = body(kernel_table([timed()]))
    assert line == ["fo_pool", "T150-B128-H1024", "forward", "native", "25.0", "—",
                    "15.7", "52%", "49%", "—", "—", "12.30"]  # fmt: skip


def test_launches_have_a_column_where_any_row_was_timed_with_them() -> None:
    text = kernel_table([timed(ms_with_launch=0.0651, ms=0.0049), timed(ms_with_launch=None)])
    assert "ms with launch" in text
    assert "ms with launch" not in kernel_table([timed()])
    assert [(line[4], line[-1]) for line in body(text)] == [("0.005", "0.065"), ("25.0", "—")]


def test_a_failure_is_shown_once_with_its_reason() -> None:
    absent = dict.fromkeys(("ms", "ms_warm", "gb_per_s", "speedup_over_chain"))
    rows = [timed(status="failed", error="h is off by 3", direction=d, **absent) for d in ("forward", "backward")]
    text = kernel_table(rows)
    assert [line[4] for line in body(text)] == ["failed", "failed"]
    assert text.count("fo_pool T150-B128-H1024 native: h is off by 3") == 1


def test_the_latest_of_several_runs_is_shown_in_any_order_of_files() -> None:
    old = record(spec_=spec(seed=1), started_at="2026-01-01", timings=[timed(ms=99.0)])
    new = record(spec_=spec(seed=2), started_at="2026-01-02", timings=[timed(), timed(direction="backward", ms=40.0)])
    other = record(spec_=spec(seed=3), machine={"fingerprint": "Other CPU"}, timings=[timed(ms=7.0)])
    runs = [old, new, other]
    texts = set()
    for _ in range(4):
        random.shuffle(runs)
        texts.add(kernel_section(runs))
    assert kernel_section([record()]) is None
    [text] = texts
    assert text is not None
    assert [line[4] for line in body(text)] == ["7.000", "25.0", "40.0"]
    assert text.index("### Other CPU") < text.index("### Some CPU")
