"""Compressors and untrained models through a whole run: record, table, gate, and what is refused."""

from __future__ import annotations

import bz2
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from jobs import make_job, run_here

from harness.commands.main import main
from harness.core.errors import NotComparableError, SuiteError
from harness.core.metrics import METRICS
from harness.evaluation.compressors import codecs
from harness.regression import baseline
from harness.report import explain
from harness.report.columns import cells, named
from harness.report.comparison import compare, find_side
from harness.report.formats import latex
from harness.report.table import build
from harness.results import published
from harness.results.published import PublishedRow
from harness.results.record import RunRecord, check_sums
from harness.results.store import Store
from harness.suite import dry_run, load, resolve
from harness.training.progress import Interrupted

SUITE = """
suite: files
dataset: {kind: bytes, name: numbers, file: numbers.txt, fractions: [0.8, 0.1, 0.1]}
metrics: [bits_per_byte]
evaluation: {splits: [test]}
entries:
  bzip2: {title: "bzip2 -9", model: {builder: compressor, method: bzip2, level: 9}}
"""
TEXT = " ".join(map(str, range(3000))).encode()
CUTS = {"train": TEXT[: int(0.8 * len(TEXT))], "whole": TEXT, "test": TEXT[int(0.9 * len(TEXT)) :]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "numbers.txt").write_bytes(TEXT)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunRecord]:
    """A folder with the run of SUITE, and its record; to read, not to change."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "numbers.txt").write_bytes(TEXT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(folder / "cache"))
        return folder, run(folder)


def run(folder: Path, text: str = SUITE) -> RunRecord:
    record = run_here(make_job(folder, text))
    Store(folder / "results").write(record)
    return record


def test_a_record_holds_sizes_versions_and_no_training(finished: tuple[Path, RunRecord]) -> None:
    folder, record = finished
    assert (record.status, record.error, record.training) == ("finished", None, None)
    sizes = {(score.protocol.name, score.split): score.coding.num_bytes for score in record.scores}
    train, test = CUTS["train"], CUTS["test"]
    assert sizes == {
        ("conditional", "test"): len(bz2.compress(train + test)) - len(bz2.compress(train)),
        ("alone", "test"): len(bz2.compress(test)),
        ("prequential", "whole"): len(bz2.compress(TEXT)),
    }
    assert record.scores[2].metrics == {"bits_per_byte": pytest.approx(8 * len(bz2.compress(TEXT)) / len(TEXT))}
    assert set(record.model["libraries"]) == {"python", "bz2"}
    # As read back from the file, with the same seconds.
    [(stored, _)] = Store(folder / "results").records()
    assert [score.coding for score in stored.scores] == [score.coding for score in record.scores]
    check_sums(stored)
    stored.scores[0] = replace(stored.scores[0], coding=replace(stored.scores[0].coding, num_bytes=1))
    with pytest.raises(ValueError, match=r"scores\.0\.coding\.num_bytes is not the size of its files"):
        check_sums(stored)


def test_protocols_name_their_rows_and_rank_apart(finished: tuple[Path, RunRecord]) -> None:
    _, record = finished
    table = build([(record, [record.spec.label])], ())
    sizes = {score.protocol.name: f"{score.coding.num_bytes:,}" for score in record.scores}
    assert cells(table.rows, named(["#", "model", "split", "protocol", "bytes"])) == [
        ["1", "bzip2 -9, conditional", "test", "conditional", sizes["conditional"]],
        ["—", "bzip2 -9, alone", "test", "alone (not ranked)", sizes["alone"]],
        ["1", "bzip2 -9", "whole", "prequential", sizes["prequential"]],
    ]
    # Without a column of protocols too.
    assert r"bzip2 -9, conditional &" in latex.write(table)
    assert all(row.unknown["ci95_low"] == "a file has no loss for parts of its text" for row in table.rows)


def test_published_codes_of_all_of_enwik8_rank_with_codes_of_all_of_it(finished: tuple[Path, RunRecord]) -> None:
    _, record = finished
    label = replace(record.spec.label, dataset="enwik8")
    # As if the text were enwik8, of which published rows are.
    spec = replace(record.spec, label=label, dataset={"name": "enwik8"}, dataset_identity={"name": "enwik8"})
    record = replace(record, spec=spec)
    value = record.scores[2].metrics["bits_per_byte"]
    assert 1.72 < value < 2.32
    other = PublishedRow("x", label.task, "enwik8", "bits_per_byte", "whole", 0.5, "M", None, "s", False, protocol="y")
    rows = build([(record, [label])], (*published.load(published.find()), other)).rows
    shown = cells([row for row in rows if row.split == "whole"], named(["#", "model", "value", "protocol", "source"]))
    source = "mattmahoney.net/dc/text.html, "
    assert shown == [
        ["1", "cmix v21", "1.16989784", "prequential", f"{source}14,623,723 bytes"],
        ["2", "nncp v3.2", "1.19322384", "prequential", f"{source}14,915,298 bytes"],
        ["3", "tensorflow-compress v4", "1.27240296", "prequential", f"{source}15,905,037 bytes"],
        ["4", "PPMd var. J", "1.71106368", "prequential", f"{source}21,388,296 bytes"],
        ["5", "bzip2 -9", f"{value:.4f}", "prequential", shown[4][4]],
        ["6", "bzip2 -9", "2.32070064", "prequential", f"{source}29,008,758 bytes"],
        ["7", "zip -9", "2.91563800", "prequential", f"{source}36,445,475 bytes"],
        ["—", "M", "0", "y (not ranked)", "s"],
    ]
    # None of them is a value of the last 5 MB.
    assert {row.protocol for row in rows if row.split == "test" and row.metric == "bits_per_byte"} == {
        "conditional",
        "alone",
    }


def test_a_model_and_a_compressor_of_one_text_share_a_table_but_no_ranking(
    folder: Path, finished: tuple[Path, RunRecord]
) -> None:
    model = SUITE[: SUITE.index("  bzip2:")] + "  ngram: {model: {builder: ngram, order: 3}}\n"
    records = [finished[1], run(folder, model)]
    rows = [row for row in build([(each, [each.spec.label]) for each in records], ()).rows if row.split == "test"]
    assert [(row.protocol, row.rank) for row in rows] == [("exact", 1), ("alone", None), ("conditional", None)]
    assert len({row.group for row in rows}) == 1


def test_the_gate_compares_sizes_on_both_sides_and_needs_no_blocks(finished: tuple[Path, RunRecord]) -> None:
    _, record = finished
    rows = baseline.measure([(record, [record.spec.label])])
    assert [(row.identity[4], row.protocol.name, row.untrained, row.blocks) for row in rows] == [
        ("test", "conditional", True, None),
        ("whole", "prequential", True, None),
    ]


def test_commands_say_what_a_compressor_has_and_has_not(finished: tuple[Path, RunRecord]) -> None:
    folder, record = finished
    results = folder / "results"
    place, suite = str(results / "runs" / record.run_id), str(folder / "small.yaml")
    parts = [each.parts for each in explain.explain(record)]
    assert parts[0]["bytes of code"] == record.scores[0].coding.num_bytes
    assert parts[0]["file of train + test"].startswith(
        f"{len(bz2.compress(CUTS['train'] + CUTS['test'])):,} bytes from"
    )
    for command, status, said in (
        (["audit", place], 0, "pass  coder: 0 bits from the claim"),
        (["audit", place, "--text", suite], 2, "is the run of a compressor, which has no weights"),
        (["evaluate", place, "--dataset", suite], 2, "is the run of a compressor, which has no weights"),
        (["explain", place], 0, "libraries             python"),
        (["table", str(results), "--format", "csv"], 0, ",prequential,"),
    ):
        made = CliRunner().invoke(main, command)
        assert made.exit_code == status, (command, made.output)
        text = made.output + (f"harness: {made.exception}" if made.exception is not None else "")
        assert said in text, (command, text)
    store = Store(results)
    side = record.run_id
    with pytest.raises(NotComparableError, match=r"a compressor's file has no loss for parts of its text"):
        compare([find_side(side, store, store.records())] * 2, None)


def test_describe_counts_every_token_of_each_file(folder: Path) -> None:
    make_job(folder, SUITE)
    [row] = dry_run.estimate(load(folder / "small.yaml"), roots=())
    counts = {(each.protocol, each.split): each.targets for each in row.evaluation}
    assert counts == {
        ("conditional", "test"): len(CUTS["test"]),
        ("alone", "test"): len(CUTS["test"]),
        ("prequential", "whole"): len(TEXT),
    }
    assert (row.parameters, row.reason) == (0, "it has nothing to learn")


def test_a_missing_package_fails_its_own_run_in_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "brotli", None)
    record = run(folder, SUITE.replace("bzip2, level: 9", "brotli, level: 5"))
    assert record.status == "failed"
    assert record.error == "brotli needs the package brotli: pip install 'lm-harness[compressors]'"


def test_a_stopped_run_keeps_the_scores_that_it_has(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, coded = make_job(folder, SUITE), []
    compress = codecs.compress
    monkeypatch.setattr(codecs, "compress", lambda *given: coded.append(len(given[1])) or compress(*given))
    with pytest.raises(Interrupted):
        run_here(job, stop=lambda: len(coded) == 3)
    assert len(coded) == 3
    record = run_here(job)
    assert (record.status, len(record.scores)) == ("finished", 3)
    # Of the third file only: the first two were of the score that was kept.
    assert coded[3:] == [len(CUTS["test"]), len(TEXT)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("level: 9", "level: 10", r"level of bzip2 must be in 1\.\.9, got 10"),
        ("method: bzip2", "method: bzip", r"entries\.bzip2\.model\.method 'bzip' is unknown.*bzip2"),
        ("level: 9", "level: 9, order: 2", r"'order' is unknown"),
        ("9}}", "9}, dtype: bfloat16}", r"entries\.bzip2\.dtype is nothing to a compressor"),
        ("9}}", "9}, adaptive: {neural_cache: {}}}", r"entries\.bzip2\.adaptive is nothing to a compressor"),
        ("9}}", "9}, recipe: {optimizer: adam, lr: 1, batch: 1, bptt: 2, epochs: 1}}", "has nothing to learn"),
        (SUITE.split("\n")[2], "dataset: {kind: markov, order: 1, symbols: 4, train: 99, valid: 9, test: 9}",
         "a compressor needs a text, and the symbols of a markov source have none"),
    ],
)  # fmt: skip
def test_what_a_compressor_cannot_have_is_refused(folder: Path, old: str, new: str, message: str) -> None:
    path = folder / "s.yaml"
    path.write_text(
        SUITE.replace(old, new).replace("bits_per_byte", "bpc") if "markov" in new else SUITE.replace(old, new)
    )
    with pytest.raises(SuiteError, match=message):
        load(path)


def test_a_run_is_named_by_what_changes_its_files(folder: Path) -> None:
    def spec(text: str = SUITE, device: str = "cpu"):
        (folder / "s.yaml").write_text(text)
        return resolve(load(folder / "s.yaml"), device=device)[0]

    same = ("{splits: [test], window: 99}", "{splits: [test], keep_nll: true}", "{splits: [test], streams: 3}")
    ids = [
        spec().run_id,
        spec(device="cuda").run_id,
        *(spec(SUITE.replace("{splits: [test]}", new)).run_id for new in same),
    ]
    assert len(set(ids)) == 1
    others = (("level: 9", "level: 8"), ("{splits: [test]}", "{splits: [test], protocols: [alone]}"))
    assert len({ids[0], *(spec(SUITE.replace(*each)).run_id for each in others)}) == 3


UNTRAINED = """
suite: learns
dataset: {kind: bytes, name: numbers, file: numbers.txt, fractions: [0.8, 0.1, 0.1]}
metrics: [bits_per_byte]
evaluation: {protocols: [prequential]}
entries:
  lstm:
    model: {builder: awd-lstm, layers: 1, hidden: 16, embedding: 16}
    adaptive: {dynamic_sgd: {lr: [1.0], segment: 50}}
"""


def test_an_untrained_model_codes_the_whole_text_while_it_learns(
    folder: Path, finished: tuple[Path, RunRecord]
) -> None:
    record = run(folder, UNTRAINED)
    assert (record.status, record.error, record.training) == ("finished", None, None)
    [score] = record.scores
    assert (score.split, score.protocol.name, score.tally.num_targets) == ("whole", "prequential", len(TEXT) - 1)
    blocks = np.array(score.block_nll_nats) / math.log(2) / score.block_targets
    # It begins at the uniform distribution over the bytes of the text, and learns.
    assert blocks[0] == pytest.approx(math.log2(11), abs=0.5)
    assert blocks[-30:-1].mean() < 0.8 * blocks[0]
    assert score.metrics["bits_per_byte"] == METRICS["bits_per_byte"].compute(score.tally)
    assert score.adaptation["chosen"]["lr"] == 1.0
    records = [(each, [each.spec.label]) for each in (record, finished[1])]
    rows = [row for row in build(records, ()).rows if row.split == "whole"]
    assert {row.rank for row in rows} == {1, 2}
    assert [row.untrained for row in baseline.measure(records[:1])] == [False]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    adaptive: {dynamic_sgd: {lr: [1.0], segment: 50}}\n", "", "is not trained, so that it learns while"),
        ("lr: [1.0]", "lr: [1.0, 2.0]", "give it one setting to learn by"),
        ("{dynamic_sgd: {lr: [1.0], segment: 50}}", "{dynamic_rms: {lr: [1.0]}}", "give it one setting to learn by"),
        ("[prequential]", "[exact]", "needs a recipe to train by, or a checkpoint to load"),
        ("[prequential]", "[alone]", "needs a recipe to train by, or a checkpoint to load"),
        ("    adaptive", "    recipe: {optimizer: adam, lr: 1, batch: 1, bptt: 2, epochs: 1}\n    adaptive",
         r"are of compressors alone; name exact, official or streams for entries\.lstm"),
    ],
)  # fmt: skip
def test_what_an_untrained_model_needs_is_said(folder: Path, old: str, new: str, message: str) -> None:
    (folder / "s.yaml").write_text(UNTRAINED.replace(old, new))
    with pytest.raises(SuiteError, match=message):
        load(folder / "s.yaml")
