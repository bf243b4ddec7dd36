"""Comparisons of runs: the committed ones, and runs made of known differences."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from invoking import call
from record_factory import EXACT, record, spec

from harness.core.errors import NotComparableError, StoreError
from harness.core.scores import EvaluationProtocol, Score, Tally
from harness.report.comparison import Runs, compare, find_side, find_stretches, to_markdown
from harness.results.store import Store

RESULTS = Path(__file__).parents[4] / "results"
LSTM, QRNN = "ptb-char-awd-lstm-s1-109008d77d", "ptb-char-qrnn-s1-e9ebfb6e14"
BLOCK, NUM = 100, 64


def side(name: str, *seeds: np.ndarray, **protocol: Any) -> Runs:
    """Runs whose blocks of 100 targets have these losses in nats per target."""
    records = []
    for seed, rates in enumerate(seeds):
        sums = [float(each) for each in rates * BLOCK]
        tally = Tally(math.fsum(sums), BLOCK * len(sums), BLOCK * len(sums), 1)
        score = Score("test", EvaluationProtocol(**{**EXACT, **protocol}), tally, {}, {}, BLOCK, sums)
        records.append(replace(record(1.0, spec_=spec(seed=seed)), scores=[score]))
    return Runs(name, tuple(records), ("bpc",))


@pytest.fixture
def noise() -> np.random.Generator:
    return np.random.default_rng(5)


def test_the_committed_runs_give_the_published_sentence() -> None:
    done = call("compare", LSTM, QRNN, "--results", RESULTS)
    assert done.exit_code == 0, done.output
    assert f"test: {LSTM} against {QRNN}: better by 0.046 bit/char, 95 % 0.041 to 0.051" in done.output
    rows = json.loads(call("compare", LSTM, QRNN, "--results", RESULTS, "--json").stdout)
    test = next(row for row in rows if row["split"] == "test")
    assert test["value_a"] == pytest.approx(1.529879855736526, abs=1e-12)
    assert test["difference"] == pytest.approx(test["value_a"] - test["value_b"], abs=1e-12)
    assert test["ci95"][0] < test["difference"] < test["ci95"][1] < 0
    assert {*test} >= {"split", "metric", "a", "b", "value_a", "value_b", "difference", "ci95", "p_value", "p_holm",
                       "verdict", "question"}  # fmt: skip
    swapped = json.loads(call("compare", QRNN, LSTM, "--results", RESULTS, "--json").stdout)
    assert next(row for row in swapped if row["split"] == "test")["difference"] == -test["difference"]


def test_pairing_uses_the_differences_of_the_blocks(noise: np.random.Generator) -> None:
    text = 2 + noise.normal(0, 0.5, NUM)
    better = text - 0.02 + noise.normal(0, 0.01, NUM)
    [row] = compare([side("a", better), side("b", text)])
    assert row.difference == pytest.approx((better - text).mean() / math.log(2))
    # The t test of independent differences is near: these have no correlation.
    expected = scipy.stats.ttest_rel(better, text).confidence_interval(0.95)
    width = (expected.high - expected.low) / math.log(2)
    assert (row.ci95[1] - row.ci95[0]) == pytest.approx(width, rel=0.6)
    assert row.verdict.startswith("better by 0.0")
    assert row.question == "text alone"
    assert row.ci95_a[1] - row.ci95_a[0] > 5 * (row.ci95[1] - row.ci95[0])


def test_seeds_change_the_question_and_what_is_needed(noise: np.random.Generator) -> None:
    text = 2 + noise.normal(0, 0.5, NUM)

    def seeds(mean: float) -> list[np.ndarray]:
        return [text + mean + noise.normal(0, 0.05) + noise.normal(0, 0.01, NUM) for _ in range(3)]

    [row] = compare([side("a", *seeds(-0.01)), side("b", *seeds(0.0))])
    assert row.question == "seeds and text"
    assert row.verdict.startswith("cannot tell: would need about")
    assert "seeds a side" in row.verdict
    for own, ci95 in (("a", row.ci95_a), ("b", row.ci95_b)):
        assert ci95[1] - ci95[0] > 0.1, own  # over seeds too, whose spread is 0.07 bit
    [single] = compare([side("a", seeds(-0.5)[0]), side("b", seeds(0.0)[0])])
    assert single.question == "text alone"


def test_a_margin_tells_equivalent_from_unknown(noise: np.random.Generator) -> None:
    text = 2 + noise.normal(0, 0.5, NUM)
    same = text + noise.normal(0, 0.002, NUM)
    assert compare([side("a", same), side("b", text)], margin=0.01)[0].verdict == (
        "no difference larger than 0.01 bit/char (equivalent)"
    )
    apart = text + noise.normal(0, 0.2, NUM)
    assert compare([side("a", apart), side("b", text)], 0.01)[0].verdict.startswith("cannot tell: would need about")
    [both] = compare([side("a", text - 0.002 + noise.normal(0, 0.002, NUM)), side("b", text)], margin=0.01)
    assert re.fullmatch(
        r"better by 0\.003 bit/char, 95 % \S+ to \S+, but by less than 0\.01 \(equivalent\)", both.verdict
    )


@pytest.mark.parametrize("margin", [None, 1.0, 2.0, 3.0, 4.0])
def test_less_text_than_there_is_never_helps(noise: np.random.Generator, margin: float | None) -> None:
    """A difference of 2 standard errors, and margins about it that neither show nor exclude it."""
    text, apart = np.full(NUM, 2.0), noise.normal(0, 0.01, NUM)
    first = compare([side("a", text + apart), side("b", text)])[0]
    error = (first.ci95[1] - first.ci95[0]) / 2 / scipy.stats.t.ppf(0.975, 5)
    apart += (1.6 * error - first.difference) * math.log(2)
    sides = [side("a", text + apart), side("b", text), *(side(name, text) for name in "cdef")]
    for compared in (compare(sides[:2], margin and margin * error), compare(sides, margin and margin * error)):
        told = re.match(r"cannot tell: would need about (\S+) times the text", compared[0].verdict)
        assert told is None or float(told[1]) > 1, compared[0].verdict


def test_equivalence_is_corrected_for_all_pairs(noise: np.random.Generator) -> None:
    """Of one pair p is 0.03 with this margin: among ten pairs that is chance."""
    text = 2 + noise.normal(0, 0.5, NUM)
    sides = [side(name, text + noise.normal(0, 0.01, NUM)) for name in "abcde"]
    [one] = compare(sides[:2])
    error = (one.ci95[1] - one.ci95[0]) / 2 / scipy.stats.t.ppf(0.975, 5)
    margin = abs(one.difference) - scipy.stats.t.ppf(0.03, 5) * error
    assert "equivalent" in compare(sides[:2], margin)[0].verdict
    assert "equivalent" not in compare(sides, margin)[0].verdict


def test_equal_runs_are_the_same_in_every_block() -> None:
    [row] = compare([side("a", np.full(NUM, 2.0)), side("b", np.full(NUM, 2.0))])
    assert (row.verdict, row.p_holm) == ("the same in every block", 1.0)
    assert find_stretches(side("a", np.full(NUM, 2.0)), side("b", np.full(NUM, 2.0)), "test", "bpc") == []


def test_stretches_hold_the_values_of_their_blocks(noise: np.random.Generator) -> None:
    a, b = 2 + noise.normal(0, 0.5, (2, NUM))
    found = find_stretches(side("a", a), side("b", b), "test", "perplexity", count=3)
    best = np.argsort(a - b)[:3]
    assert [each.first_target for each in found] == [1 + BLOCK * block for block in best]
    assert [each.difference for each in found] == pytest.approx(np.exp(a[best]) - np.exp(b[best]))


def test_holm_is_over_all_pairs(noise: np.random.Generator) -> None:
    text = 2 + noise.normal(0, 0.5, NUM)
    sides = [side(name, text + noise.normal(0.003, 0.01, NUM)) for name in "abc"]
    rows = compare(sides)
    assert [(row.a, row.b) for row in rows] == [("a", "b"), ("a", "c"), ("b", "c")]
    smallest = min(rows, key=lambda row: row.p_value)
    assert smallest.p_holm == pytest.approx(min(1.0, 3 * smallest.p_value))
    assert "A - B, 95 %" in to_markdown(rows)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (lambda: side("b", np.full(NUM, 2.0), num_streams=2), "protocol num_streams is 1 and 2"),
        (lambda: side("b", np.full(NUM - 1, 2.0)), "num_targets is 6400 and 6300"),
        (lambda: side("b", np.array([2.0, math.nan] * (NUM // 2))), "a block of test has no finite loss"),
    ],
)
def test_what_cannot_be_compared_is_refused(other: Any, said: str) -> None:
    with pytest.raises(NotComparableError, match=said):
        compare([side("a", np.full(NUM, 2.0)), other()])


def test_one_block_is_refused() -> None:
    with pytest.raises(NotComparableError, match="has 1 blocks of text, and an interval needs 8"):
        compare([side("a", np.full(1, 2.0)), side("b", np.full(1, 2.1))])


def test_names_are_found_or_refused_in_one_line(tmp_path: Path) -> None:
    store = Store(RESULTS)
    records = store.records()
    assert find_side("ptb-char/quick-512/qrnn", store, records).records[0].run_id == QRNN
    assert find_side(str(RESULTS / "runs" / QRNN), store, records).records[0].run_id == QRNN
    with pytest.raises(NotComparableError, match="'qrnn' names runs of 5 recipes"):
        find_side("qrnn", store, records)
    with pytest.raises(StoreError, match=r"no run or entry 'ptb-char/quick/qrn'\. Did you mean 'ptb-char/quick/qrnn'"):
        find_side("ptb-char/quick/qrn", store, records)
    failed = Store(tmp_path)
    failed.write(replace(record(1.0), status="failed", error="no memory", scores=[]))
    with pytest.raises(NotComparableError, match="failed: no memory"):
        find_side(record().run_id, failed, failed.records())
    (failed.run_folder(record().run_id) / "record.json").write_text("{")
    with pytest.raises(StoreError, match="is damaged"):
        find_side(record().run_id, failed, failed.records())
    assert call("compare", LSTM, "--results", RESULTS).exit_code == 2
    assert call("compare", LSTM, "ptb-word/qrnn", "--results", RESULTS).exit_code == 3
