"""The committed published rows against the paper, and a loader that lets nothing slip."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path

import pytest

from harness.core.errors import StoreError
from harness.core.metrics import METRICS
from harness.results import published
from harness.results.published import dataset_title, load, match, paper_rows
from harness.system.source import ROOT

ROWS = load(published.find())

# arXiv:1803.08240, as its results are listed: dataset, metric, value as printed, model.
PAPER = {
    ("Penn Treebank (Character Level)", "Bit per Character (BPC)", "1.175", "3-layer AWD-LSTM"),
    ("Penn Treebank (Character Level)", "Bit per Character (BPC)", "1.187", "6-layer QRNN"),
    ("WikiText-103", "Test perplexity", "33", "4 layer QRNN"),
    ("WikiText-103", "Validation perplexity", "32", "4 layer QRNN"),
    ("Hutter Prize", "Bit per Character (BPC)", "1.232", "3-layer AWD-LSTM"),
    ("enwik8", "Bit per Character (BPC)", "1.232", "AWD-LSTM (3 layers)"),
}

ROW = (
    "{id: a/b, task: Language Modelling, dataset: a, metric: bpc, split: test, value: 1.190, model: M,"
    ' params: 1_000, source: "arXiv:1", paper: false}'
)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_six_rows_of_the_paper() -> None:
    rows = paper_rows(ROWS)
    found = {
        (dataset_title(r.dataset), METRICS[r.metric].title_for(r.split), f"{r.value:.{r.decimals}f}", r.model)
        for r in rows
    }
    assert found == PAPER
    assert len(rows) == 6
    assert {(row.task, row.source) for row in rows} == {("Language Modelling", "arXiv:1803.08240")}


def test_every_row_is_of_a_known_dataset_and_metric() -> None:
    assert {row.dataset for row in ROWS} == set(published.TITLES)
    assert {row.metric for row in ROWS} <= set(METRICS)
    assert len(ROWS) == 48


def test_exactly_the_rows_with_a_cache_or_dynamic_evaluation_are_marked_as_adaptive() -> None:
    learning = {row.id for row in ROWS if "dynamic evaluation" in row.model or "cache" in row.model}
    assert {row.id for row in ROWS if row.adaptive} == learning
    assert len(learning) == 9


def test_codes_of_all_of_enwik8_are_the_bytes_of_their_files() -> None:
    """A row per byte and one pass over 100 MB gives the file's size back, to the byte."""
    rows = [row for row in ROWS if row.protocol is not None]
    assert {(row.dataset, row.metric, row.split, row.protocol) for row in rows} == {
        ("enwik8", "bits_per_byte", "whole", "prequential")
    }
    sizes = {row.model: round(row.value * 1e8 / 8, 3) for row in rows}
    assert sizes == {
        "cmix v21": 14_623_723,
        "nncp v3.2": 14_915_298,
        "tensorflow-compress v4": 15_905_037,
        "PPMd var. J": 21_388_296,
        "bzip2 -9": 29_008_758,
        "zip -9": 36_445_475,
    }
    assert {row.split for row in ROWS if row.protocol is None} == {"test", "train", "valid"}


def test_the_record_of_a_track_is_the_mean_of_committed_runs_within_its_rule() -> None:
    (row,) = [row for row in ROWS if "/track-" in row.id]
    names = re.findall(r"\S+-s\d+-[0-9a-f]{10}", row.source)
    records = [json.loads((ROOT / name / "record.json").read_text()) for name in names]
    values = [
        score["metrics"][row.metric]
        for record in records
        for score in record["scores"]
        if (score["split"], score["protocol"]["name"]) == (row.split, "exact")
    ]
    assert len(values) == len(records) > 0
    assert row.value == round(statistics.fmean(values), row.decimals)
    for record in records:
        assert record["training"]["seconds"] <= 480
        assert record["model"]["num_parameters"] == row.params < 20_000_000


def test_ids_that_suites_may_name() -> None:
    assert match(ROWS, "ptb-char/qrnn", metric="bpc", split="test").value == 1.187
    assert match(ROWS, "ptb-char/qrnn", metric="bpc", split="valid") is None
    for name in ("wikitext-103/qrnn", "wikitext-103/qrnn-test", "wikitext-103/qrnn-valid"):
        assert match(ROWS, name, metric="perplexity", split="test").value == 33
        assert match(ROWS, name, metric="perplexity", split="valid").value == 32
    assert match(ROWS, "nothing", metric="bpc", split="test") is None
    assert match(ROWS, None, metric="bpc", split="test") is None


def test_a_row_keeps_the_digits_of_its_source(tmp_path: Path) -> None:
    (row,) = load(write(tmp_path / "p.yaml", f"rows:\n- {ROW}\n"))
    assert (row.value, row.decimals, row.params, row.paper) == (1.19, 3, 1000, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: [", "not valid YAML"),
        ("rows: " + "[" * 3000, "nested too deep"),
        ('rows: ["\\UFFFFFFFF"]', "an escape is out of range"),
        (f"rows:\n- {ROW.replace('1.190', 'x' * 5000)}", r"got 'x{56}\.\.\."),
        (f"rows:\n- {ROW[:-1]}, {'k' * 900}: 1}}", r"row 1: k{97}\.\.\. is unknown"),
        ("- 1", "one key, `rows`"),
        ("rows: []\nmore: 1", "one key, `rows`"),
        (f"rows:\n- {ROW}\n- {ROW}", "id 'a/b' is used twice"),
        (f"rows:\n- {ROW[:-1]}, id: c}}", "duplicate key"),
        (f"rows:\n- {ROW[:-1]}, extra: 1}}", "row 1: extra is unknown"),
        (f"rows:\n- {ROW.replace('model: M,', '')}", "row 1: model is missing"),
        (f"rows:\n- {ROW.replace('1.190', '.nan')}", "plain decimal number"),
        (f"rows:\n- {ROW.replace('1.190', '1e3')}", "plain decimal number"),
        (f"rows:\n- {ROW.replace('1_000', '1k')}", "params must be"),
        (f"rows:\n- {ROW.replace('paper: false', 'paper: no')}", "paper must be true or false"),
        (f"rows:\n- {ROW.replace('split: test', 'split: dev')}", "split must be .* 'test' or 'whole', got 'dev'"),
        (f"rows:\n- {ROW.replace('model: M', 'model: [M]')}", "model must be text"),
        (
            "rows:\n- " + ROW.replace("model: M", "model: ''"),
            "model is not valid: String should have at least 1 character",
        ),
        ("rows: [1]", "the value must be a block of keys"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "p.yaml", text)
    with pytest.raises(StoreError, match=message) as refused:
        load(path)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(str(path))


def test_a_results_folder_may_bring_its_own(tmp_path: Path) -> None:
    assert published.find(tmp_path) == published.find()
    own = write(tmp_path / "published.yaml", "rows: []")
    assert published.find(tmp_path) == own
    assert load(own) == ()
