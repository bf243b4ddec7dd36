"""Timed kernels as tables, and their section of the leaderboard."""

from __future__ import annotations

import random
from typing import Any

from record_factory import record, spec, timed

from harness.report.kernels import kernel_table, leaderboard_section, training_table
from harness.report.leaderboard import leaderboard
from harness.results import published


def body(text: str) -> list[list[str]]:
    """Cells of every table's lines but the headings and the rules below them."""
    lines = text.splitlines()
    rules = {number for number, line in enumerate(lines) if line.startswith("|:") or line.startswith("|-")}
    kept = [line for number, line in enumerate(lines) if line.startswith("|") and not {number, number + 1} & rules]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in kept]


def test_a_row_shows_shares_of_the_ceilings_and_dashes_for_what_was_not_counted() -> None:
    [line] = body(kernel_table([timed()]))
    assert line == ["fo_pool", "T150-B128-H1024", "forward", "native", "25.0", "—",
                    "15.7", "52%", "49%", "—", "—", "12.30"]  # fmt: skip


def test_launches_have_a_column_where_any_row_was_timed_with_them() -> None:
    text = kernel_table([timed(ms_with_launch=0.0651, ms=0.0049), timed(ms_with_launch=None)])
    assert "ms with launch" in text
    assert "ms with launch" not in kernel_table([timed()])
    assert [(line[4], line[-1]) for line in body(text)] == [("0.005", "0.065"), ("25.0", "—")]


def test_what_failed_says_so_once_with_its_reason() -> None:
    absent = dict.fromkeys(("ms", "ms_warm", "gb_per_s", "speedup_over_chain"))
    rows = [timed(status="failed", error="h is off by 3", direction=d, **absent) for d in ("forward", "backward")]
    text = kernel_table(rows)
    assert [line[4] for line in body(text)] == ["failed", "failed"]
    assert text.count("fo_pool T150-B128-H1024 native: h is off by 3") == 1


def test_training_rows_show_tokens_and_a_failure_its_reason() -> None:
    good = {"entry": "qrnn-4x256", "backend": "native", "status": "ok", "error": None, "tokens_per_s": 21_500.4,
            "speedup_over_chain": 1.5, "share_of_gemm": 0.71, "peak_rss_bytes": 412_000_000}  # fmt: skip
    bad = {
        **dict.fromkeys(good),
        "entry": "qrnn-4x256",
        "backend": "triton",
        "status": "failed",
        "error": "ended with status -9",
    }
    text = training_table([good, bad])
    assert body(text)[0] == ["qrnn-4x256", "native", "21,500", "1.50", "71%", "412"]
    assert body(text)[1][2] == "failed"
    assert "qrnn-4x256 triton: ended with status -9" in text


def test_the_latest_of_several_runs_is_shown_whatever_the_order_of_files() -> None:
    old = record(spec_=spec(seed=1), started_at="2026-01-01", timings=[timed(ms=99.0)])
    new = record(spec_=spec(seed=2), started_at="2026-01-02", timings=[timed(), timed(direction="backward", ms=40.0)])
    other = record(spec_=spec(seed=3), machine={"fingerprint": "Other CPU"}, timings=[timed(ms=7.0)])
    runs = [old, new, other]
    texts = set()
    for _ in range(4):
        random.shuffle(runs)
        texts.add(leaderboard_section(runs))
    [text] = texts
    assert text is not None
    assert [line[4] for line in body(text)] == ["7.000", "25.0", "40.0"]
    assert text.index("### Other CPU") < text.index("### Some CPU")


def test_a_leaderboard_without_timings_has_no_such_section() -> None:
    rows = published.load(published.find())

    def text(*runs: Any) -> str:
        labelled = [(run, [run.spec.label]) for run in runs]
        return leaderboard(labelled, rows, suites=(), regenerate="harness table results --save")

    assert leaderboard_section([record()]) is None
    assert "## Kernels" not in text(record())
    assert text(record(timings=[timed()])).endswith(kernel_table([timed()]))
