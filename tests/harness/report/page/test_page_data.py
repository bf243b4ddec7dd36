"""What the views of a page say, held against records and against `harness table`."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from record_factory import failed, label, labelled, record, spec, timed

from harness.core.metrics import metric_named
from harness.core.specs import Label
from harness.report import Leaderboard
from harness.report.columns import EVERY
from harness.report.page import boards, ceilings, content, curves, front, pairs, runs, slugs, traces, verdicts
from harness.report.row import Row
from harness.results import published
from harness.results.record import RunRecord
from harness.results.store import Store
from harness.suite import load, readable_suites
from harness.system.source import ROOT

PUBLISHED = published.load(published.find())


def board(*records: RunRecord) -> Leaderboard:
    return Leaderboard(Path("results"), labelled(*records), PUBLISHED)


def named(entry: str, **changes: Any) -> Label:
    return label(entry=entry, title=entry, **changes)


def test_a_board_has_the_rows_and_texts_of_the_table_in_its_order() -> None:
    table = board(record(1.5), record(1.4, spec_=spec(label=named("other"), seed=2))).table()
    [first, *_] = boards.boards(table)
    assert [line.row for line in first.lines] == list(table.groups()[0])
    texts = {column.heading: column.text for column in EVERY} | {"Rank": EVERY[0].text, "95 % interval": EVERY[6].text}
    texts["Difference from published"] = texts["Difference"]
    for line in first.lines:
        for cell in line.cells:
            assert cell.text == texts[first.columns[line.cells.index(cell)][0]](line.row)
    assert {line.kind for line in first.lines} == {"ours", "published"}


def test_what_all_rows_share_is_said_once() -> None:
    two = (record(1.5), record(1.4, spec_=spec(label=named("other"), seed=2)))
    [first, *_] = boards.boards(board(*two).table())
    assert "lower is better" in first.about[0]
    assert "device Some CPU" in first.about[1]
    assert "Device" not in dict(first.columns)


def full_run(value: float, *, blocks: bool = False) -> RunRecord:
    """A run of the recipe that reproduces a row."""
    suite = load(ROOT / "suites" / "ptb-char.yaml")
    entry = next(each for each in suite.entries if each.published == "ptb-char/awd-lstm")
    own = label(profile="full", entry=entry.name, published=entry.published)
    made = record(value, spec_=spec(label=own, model=entry.model, recipe=entry.recipe))
    if not blocks:
        return made
    nats = [value * math.log(2) * 100 * (1 + (-1) ** place * 0.05) for place in range(40)]
    test = made.scores[-1]
    tally = replace(test.tally, nll_nats=math.fsum(nats), num_targets=4000, num_units=4000)
    return replace(made, scores=[replace(test, tally=tally, block_targets=100, block_nll_nats=nats)])


@pytest.mark.parametrize(
    ("run", "state"),
    [
        (None, verdicts.NOT_RUN),
        (record(1.5), verdicts.SMALLER),
        (full_run(1.1754), verdicts.REPRODUCED),
        (full_run(1.1756), verdicts.MISSED),
        (full_run(1.18, blocks=True), verdicts.WITHIN),
        (failed(spec_=full_run(1.2).spec), "failed"),
    ],
)
def test_only_the_full_recipe_reproduces_a_row_in_the_digits_of_the_paper(run: RunRecord | None, state: str) -> None:
    read = replace(board(*([run] if run else [])), suites=readable_suites()[0])
    found = {each.line.published.id: each for each in verdicts.verdicts(read, read.table())}
    assert found["ptb-char/awd-lstm"].state == state
    assert {each.state for name, each in found.items() if name != "ptb-char/awd-lstm"} == {verdicts.NOT_RUN}
    assert len(found) == 6


CURVE = [
    {"step": 10, "tokens": 100, "train_seconds": 1.0, "validation_seconds": 0.5, "valid_nll_nats": 2.0},
    {"step": 20, "tokens": 200, "train_seconds": 2.0, "validation_seconds": 1.0, "valid_nll_nats": 1.0},
    {"step": 30, "tokens": 300, "train_seconds": 3.0, "validation_seconds": 1.5, "valid_nll_nats": 1.5},
]


def test_a_target_is_reached_at_the_first_validation_at_least_as_good() -> None:
    [panel] = curves.panels(labelled(record(curve=CURVE)))
    [curve] = panel.curves
    assert curve.values == pytest.approx([2 / math.log(2), 1 / math.log(2), 1.5 / math.log(2)])
    place = curve.reached(1.6, panel.metric)
    assert place == 1
    assert {axis: curve.axes[axis][place] for axis in curves.AXES} == {
        "tokens": 200,
        "seconds": 2.0,
        "updates": 20,
        "joules": None,
    }
    assert curve.reached(1.0, panel.metric) is None


def test_joules_are_read_from_the_counter_at_the_time_of_a_validation() -> None:
    # 30 W from the beginning of training at 5 s on.
    trace = [{"times_s": 4.0, "phase": "load", "gpu_energy_j": 70.0}]
    trace += [{"times_s": 5.0 + s, "phase": "train", "gpu_energy_j": 100.0 + 30.0 * s} for s in range(6)]
    [panel] = curves.panels(labelled(record(curve=CURVE, traces=trace, spec_=spec(device="cuda"))))
    assert panel.curves[0].axes["joules"] == pytest.approx([45.0, 90.0, 135.0])


def row(value: float, params: int | None) -> Row:
    return Row(
        task="t", dataset="d", metric="bpc", split="test", protocol="exact", value=value, model="m", entry="e",
        params=params, status="finished", dataset_title="d", metric_title="b", rank=1,
    )  # fmt: skip


def test_the_front_has_the_rows_that_no_other_beats() -> None:
    rows = [row(1.5, 10), row(1.6, 5), row(1.7, 7), row(1.4, 20), row(1.5, 12), row(1.3, None), row(1.2, 0)]
    assert [each.params for each in front.front(rows, lambda each: each.params)] == [5, 10, 20]


def test_kernels_of_runs_and_benchmarks_are_read_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    rows = [timed(flops=4e9, bytes_moved=2e9, gflop_per_s=160.0, samples_ms=[1.0, None, 2.0], ratio_to_reference=0.25)]
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "bad.json").write_text('{"kind": "kernels"', encoding="utf-8")
    (tmp_path / "bench" / "worse.json").write_text("[1]", encoding="utf-8")
    made = record(timings=[*rows, timed(status="failed", error="x"), {"phase": "no kernel"}])
    found, problems = ceilings.timings([made], tmp_path)
    [each] = found
    assert (each.intensity, each.over_reference, each.samples_ms) == (2.0, 4.0, (1.0, 2.0))
    assert len(problems) == 2


def test_readings_are_thinned_by_means_and_attempts_follow_each_other() -> None:
    rows = [{"attempt": 1, "times_s": s, "phase": "train", "cpu_percent": 50.0} for s in range(300)]
    rows += [{"attempt": 2, "times_s": s, "phase": "evaluate", "cpu_percent": None, "rss_bytes": 2e9} for s in range(3)]
    trace = traces.trace_of(record(traces=rows))
    assert len(trace.panels["busy"]) == traces.MOST_POINTS
    assert {point["y"] for point in trace.panels["busy"]} == {50.0}
    assert [point["x"] for point in trace.panels["memory"]] == [299.0, 300.0, 301.0]
    assert [(each["phase"], each["end"]) for each in trace.phases] == [("train", 299.0), ("evaluate", 301.0)]


def with_blocks(entry: str, factor: float) -> RunRecord:
    made = record(1.5, spec_=spec(label=named(entry), seed=len(entry)))
    nats = [70 * factor * (1 + 0.02 * (place % 5)) for place in range(64)]
    score = made.scores[-1]
    tally = replace(score.tally, nll_nats=math.fsum(nats), num_targets=6400, num_units=6400)
    metrics = {"bpc": metric_named("bpc").compute(tally)}
    return replace(made, scores=[replace(score, tally=tally, metrics=metrics, block_targets=100, block_nll_nats=nats)])


def test_a_pair_has_the_difference_of_the_comparison_and_parts_that_add_up(tmp_path: Path) -> None:
    records = [with_blocks("better", 1.0), with_blocks("worse one", 1.1)]
    table = board(*records).table()
    [pair] = pairs.pairs(table, {each.run_id: each for each in records}, Store(tmp_path), show_text=False)
    a, b = (each.scores[0].metrics["bpc"] for each in records)
    assert pair.comparison.difference == pytest.approx(a - b)
    # Parts of equal size: their mean is the difference.
    assert sum(part.difference for part in pair.parts) / len(pair.parts) == pytest.approx(a - b)
    assert (pair.parts[0].start, pair.parts[-1].end) == (0.0, 1.0)
    assert all(part.low <= part.difference <= part.high for part in pair.parts)
    assert (pair.b_wins, len(pair.a_wins)) == ((), 5)


def test_the_command_of_a_run_names_all_that_a_suite_leaves_open() -> None:
    command, note = runs.repeat_command(record(), label(suite="it's mine"), ())
    assert (
        command
        == "harness run 'it'\"'\"'s mine.yaml' --profile quick --only awd-lstm --seed 1 --device cpu --results repeat"
    )
    assert "name its file" in note


def test_the_command_says_what_departs_from_the_suite_of_now() -> None:
    run, suites = full_run(1.2), readable_suites()[0]
    own = run.spec.label
    assert runs.repeat_command(run, own, suites)[1] == ""
    other = replace(run, spec=replace(run.spec, model={**run.spec.model, "layers": 7}, dtype="float64"))
    changed, dtype = runs.repeat_command(other, own, suites)[1].split("; ")
    assert changed.startswith("the suite has changed since")
    assert dtype.startswith("the run had dtype float64, the suite has ")
    assert "has no entry gone now" in runs.repeat_command(run, replace(own, entry="gone"), suites)[1]


def test_a_kernel_is_held_against_the_ceiling_that_its_row_has_the_share_of(tmp_path: Path) -> None:
    row = timed(gflop_per_s=30.0, share_of_gemm=0.75, gb_per_s=2.0, share_of_triad=0.4, flops=6e9, bytes_moved=4e8)
    [found] = ceilings.timings([record(timings=[row])], tmp_path)[0]
    # 15 operations per byte at 5 GB/s allow 75 GFLOP/s, and 30 are 75 % of 40.
    assert (found.gemm_gflop_per_s, found.roof_gflop_per_s, found.is_bound_by_compute) == (40.0, 40.0, True)
    [slow] = ceilings.timings([record(timings=[{**row, "share_of_triad": 0.8}])], tmp_path)[0]
    assert (slow.roof_gflop_per_s, slow.is_bound_by_compute) == (37.5, False)


def test_every_value_of_a_block_has_its_place() -> None:
    block = {"a_b": {"c": None, "d": [{"e": True}, {"e": 0.25}]}, "f": [1, 2], "g": {}}
    assert runs.flat(block) == [
        ("a b, c", "none"),
        ("a b, d 1, e", "yes"),
        ("a b, d 2, e", "0.25"),
        ("f", "1, 2"),
        ("g", "none"),
    ]


def test_names_are_unique_and_plain() -> None:
    assert slugs.slugs(["A b", "a-b", "<x>", "?"]) == ["a-b", "a-b-2", "x", "unnamed"]


def test_a_long_name_keeps_its_metric_and_split() -> None:
    heading = "leaderboard A Text, first 50,000 bytes detokenised and more (data 3853c0856e): Token perplexity, "
    test, valid = slugs.slugs(f"{heading}{split}" for split in ("test", "valid"))
    assert max(map(len, (test, valid))) <= 72
    assert (test[:18], test[-33:]) == ("leaderboard-a-text", "-3853c0856e-token-perplexity-test")
    assert valid.endswith("-token-perplexity-valid")


def test_the_figure_that_the_manual_names_is_one() -> None:
    [first, *_] = boards.boards(board(record(1.5)).table())
    assert f"harness figure {first.key} results" in Path("docs/report.md").read_text(encoding="utf-8")


def test_a_folder_of_failed_runs_still_has_every_view(tmp_path: Path) -> None:
    gathered = content.gather(replace(board(failed(curve=[], costs=None)), root=tmp_path))
    assert (gathered.panels, gathered.tradeoffs, gathered.machines, gathered.pairs) == ([], [], [], [])
    assert len(gathered.verdicts) == 6
