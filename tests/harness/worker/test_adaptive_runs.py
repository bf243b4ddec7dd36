"""`adaptive` from the suite's key to the record, the table and the gate."""

from __future__ import annotations

from pathlib import Path

import pytest
from jobs import make_job, run_here
from record_factory import record, score, spec

from harness.core.config.as_json import as_json
from harness.core.config.evaluation import Adaptive, DynamicRms, DynamicSgd, Evaluation, NeuralCache
from harness.core.errors import SuiteError
from harness.core.json_values import parse_value
from harness.regression import baseline
from harness.report import build
from harness.results.record import RunRecord
from harness.results.record_file import plain
from harness.results.store import Store
from harness.suite import dry_run, load, resolve

SUITE = """\
suite: small
dataset: {kind: markov, order: 1, symbols: 5, train: 3000, valid: 300, test: 400}
metrics: [bpc]
evaluation: {ADAPTIVE}
entries:
  qrnn:
    model: {builder: qrnn, layers: 1, hidden: 8, embedding: 6}
    recipe: {optimizer: adam, lr: 1e-2, batch: 8, bptt: 20, tokens: 2000}
"""
RMS = "dynamic_rms: {lr: [1e-4], statistics_streams: 4}"
EVERY = f"adaptive: {{neural_cache: {{window: [50]}}, dynamic_sgd: {{lr: [1e-3, 1e-2]}}, {RMS}}}"


def written(tmp_path: Path, adaptive: str = "", more: str = "") -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SUITE.replace("ADAPTIVE", adaptive) + more)
    return path


def run_small(path: Path) -> RunRecord:
    record = run_here(make_job(path.parent, path.read_text()))
    assert (record.status, record.error) == ("finished", None)
    return record


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: NeuralCache(window=()), "window must hold at least one value"),
        (lambda: NeuralCache(window=(0,)), "window must be at least 1, got 0"),
        (lambda: NeuralCache(theta=(0.1, 0.1)), r"theta names one twice: \[0.1, 0.1\]"),
        (lambda: NeuralCache(theta=(float("inf"),)), "theta must be at least 0, got inf"),
        (lambda: NeuralCache(interpolation=(0.5, 1.0)), "interpolation must be below 1, got 1.0"),
        (lambda: NeuralCache(tune_tokens=0), "tune_tokens must be at least 1, got 0"),
        (lambda: DynamicSgd(lr=(-1.0,)), "lr must be at least 0, got -1.0"),
        (lambda: DynamicSgd(lr=(1.0,), decay=(2.0,)), r"decay must be in \[0, 1\], got 2.0"),
        (lambda: DynamicSgd(lr=(1.0,), segment=0), "segment must be at least 1, got 0"),
        (lambda: DynamicRms(lr=(1.0,), epsilon=0.0), "epsilon must be positive, got 0.0"),
        (lambda: DynamicRms(lr=(1.0,), statistics_streams=0), "statistics_streams must be at least 1, got 0"),
        (lambda: Adaptive(), "needs at least one of neural_cache, dynamic_sgd and dynamic_rms"),
    ],
)
def test_settings_check_themselves(make, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=said):
        make()


def test_a_wrong_key_is_cited_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"small.yaml:4: .*neural_cache 'windows' is unknown\. Did you mean 'window'"):
        load(written(tmp_path, "adaptive: {neural_cache: {windows: [3]}}"))
    with pytest.raises(SuiteError, match=r"small.yaml:4: evaluation.adaptive.dynamic_rms.lr is missing"):
        load(written(tmp_path, "adaptive: {dynamic_rms: {}}"))
    with pytest.raises(SuiteError, match=r"small.yaml:4: evaluation.adaptive: needs at least one of"):
        load(written(tmp_path, "adaptive: {}"))


def test_a_block_survives_the_record_and_an_absent_one_leaves_no_trace(tmp_path: Path) -> None:
    plain = load(written(tmp_path))
    assert as_json(plain.evaluation) == {
        "protocols": ["exact"], "splits": ["valid", "test"], "streams": 64, "warmup": 512, "window": 512,
    }  # fmt: skip
    suite = load(written(tmp_path, EVERY))
    [with_all], [without] = resolve(suite, device="cpu"), resolve(plain, device="cpu")
    assert with_all.run_id != without.run_id
    assert parse_value(Evaluation, as_json(suite.evaluation)) == suite.evaluation
    one = load(written(tmp_path, "adaptive: {dynamic_sgd: {lr: [1]}}")).evaluation.adaptive
    assert as_json(one) == {"dynamic_sgd": {"lr": [1.0], "decay": [0.0], "segment": 20, "tune_tokens": 20_000}}


def test_an_entry_may_adapt_alone(tmp_path: Path) -> None:
    alone = "    adaptive: {dynamic_sgd: {lr: [1e-3]}}\n"
    other = SUITE.split("entries:\n")[1].replace("  qrnn:", "  other:")
    suite = load(written(tmp_path, "", alone + other))
    first, second = resolve(suite, device="cpu")
    assert first.evaluation.adaptive_protocols == ("dynamic-sgd",)
    assert second.evaluation.adaptive is None
    rows = dry_run.estimate(suite)
    assert [each.protocol for each in rows[0].evaluation] == ["exact", "exact", "dynamic-sgd", "dynamic-sgd"]
    assert "qrnn, time on this machine's CPU, roughly: training " in dry_run.render(rows)
    assert "test dynamic-sgd (" in dry_run.render(rows)


def test_a_run_holds_static_and_adapted_scores_with_the_paired_gain(tmp_path: Path) -> None:
    found = run_small(written(tmp_path, EVERY))
    body = plain(found, tmp_path)
    assert plain(parse_value(RunRecord, body), tmp_path) == body
    names = [(each.protocol.name, each.split) for each in found.scores]
    assert names == [
        (name, split) for name in ("exact", "neural-cache", "dynamic-sgd", "dynamic-rms") for split in ("valid", "test")
    ]
    assert [each.adaptation is not None for each in found.scores] == [False] * 2 + [True] * 6
    for each in found.scores[2:]:
        assert each.adaptation["beside_static"]["protocol"] == "exact"
        assert each.tally.num_targets == found.scores[0 if each.split == "valid" else 1].tally.num_targets


def test_an_adaptation_that_runs_away_fails_alone_and_leaves_the_static_score_its_rank(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    store.write(run_small(written(tmp_path, "adaptive: {dynamic_sgd: {lr: [3e38]}}")))
    rows = [row for row in build(store.records(), []).rows if row.status != "limit"]
    static, adapted = ([row for row in rows if row.protocol == name] for name in ("exact", "dynamic-sgd"))
    assert [(row.status, row.rank, row.error) for row in static] == [("finished", 1, None)] * 2
    assert [(row.status, row.rank, row.value) for row in adapted] == [("failed", None, None)] * 2
    assert {row.error for row in adapted} == {"the score is not a finite number"}


def test_adapted_scores_are_marked_and_neither_ranked_nor_compared_nor_held_by_the_gate() -> None:
    evaluation = Evaluation(adaptive=Adaptive(dynamic_rms=DynamicRms(lr=(1e-4,))))
    adapted = score(1.1, name="dynamic-rms")
    one = record(1.5, spec_=spec(evaluation=evaluation))
    one.scores.append(adapted)
    table = build([(one, [one.spec.label])], [])
    rows = {row.model: row for row in table.rows if row.split == "test"}
    static, better = rows["2-layer AWD-LSTM"], rows["2-layer AWD-LSTM + dynamic evaluation (RMS)"]
    assert (static.rank, better.rank) == (1, None)
    assert better.value == pytest.approx(1.1)
    assert better.published is None
    missing = [row for row in table.rows if row.split == "valid" and row.protocol == "dynamic-rms"]
    assert [row.status for row in missing] == ["failed"]
    held = [row for row in baseline.measure([(one, [one.spec.label])]) if row.identity[-1] == "quality"]
    assert [row.value for row in held] == [pytest.approx(1.6), pytest.approx(1.5)]
