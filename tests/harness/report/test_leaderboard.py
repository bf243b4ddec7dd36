"""The leaderboard of a results folder: the paper's rows, every ranking, and what is read for them."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from invoking import call
from record_factory import failed, label, labelled, recipe, record, spec, timed

import harness
from harness.core.config.evaluation import Evaluation
from harness.core.errors import StoreError
from harness.core.specs import Entry, Suite
from harness.report import Leaderboard, kernel_table, read_leaderboard
from harness.results import published
from harness.results.record import RunRecord
from harness.results.store import Store
from harness.suite import load, loader
from harness.system import reading

PUBLISHED = published.load(published.find())
FULL = label(profile="full")
MISSING = "no finished run of the full recipe among these records"


def suite(**changes: Any) -> Suite:
    entry = Entry("awd-lstm", "AWD-LSTM", spec().model, recipe(), None, "ptb-char/awd-lstm", "float32", "auto")
    values: Any = {
        "path": Path("suite.yaml"),
        "name": "ptb-char",
        "task": "Language Modelling",
        "profile": "full",
        "profiles": ("full", "quick"),
        "dataset": {"name": "ptb-char"},
        "dataset_title": "ptb-char",
        "metrics": ("bpc",),
        "evaluation": Evaluation(),
        "seeds": (1,),
        "entries": (entry,),
        "checkpoint_every_s": 60.0,
    }
    return Suite(**{**values, **changes})


def markdown(*records: RunRecord, suites: Any = ()) -> str:
    return Leaderboard(Path("results"), labelled(*records), PUBLISHED, suites).markdown()


def paper_lines(text: str) -> list[list[str]]:
    """Cells of the first table's body."""
    lines = [line for line in text.split("## ")[1].splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_papers_six_rows_are_shown_without_any_record() -> None:
    lines = paper_lines(markdown())
    assert [line[1:5] for line in lines] == [
        ["Penn Treebank (Character Level)", "Bit per Character (BPC)", "1.175", "3-layer AWD-LSTM"],
        ["Penn Treebank (Character Level)", "Bit per Character (BPC)", "1.187", "6-layer QRNN"],
        ["WikiText-103", "Test perplexity", "33", "4 layer QRNN"],
        ["WikiText-103", "Validation perplexity", "32", "4 layer QRNN"],
        ["Hutter Prize", "Bit per Character (BPC)", "1.232", "3-layer AWD-LSTM"],
        ["enwik8", "Bit per Character (BPC)", "1.232", "AWD-LSTM (3 layers)"],
    ]
    assert [line[5] for line in lines] == ["none yet"] * 6
    assert {line[-1] for line in lines} == {MISSING}


@pytest.mark.parametrize(
    ("records", "ours", "profile", "remark"),
    [
        ([record(1.65)], "1.650", "quick", MISSING),
        # The full recipe comes before a better quick run.
        ([record(1.1, spec_=spec(seed=2)), record(1.18, spec_=spec(label=FULL))], "1.180", "full", "full recipe"),
        # Names prove nothing: neither a recipe changed by hand nor somebody's suite is the full recipe.
        ([record(1.5, spec_=spec(label=FULL, recipe=recipe(epochs=1)))], "1.500", "full, changed", MISSING),
        (
            [record(1.5, spec_=spec(label=label(suite="toy", profile="full"), model={**spec().model, "hidden": 8}))],
            "1.500",
            "full, changed",
            MISSING,
        ),
        ([failed(spec_=spec(label=FULL))], "failed", "—", "the run of profile full failed: out of memory at step 12"),
    ],
)
def test_a_row_of_the_paper_has_our_best_run_and_a_remark(
    records: list[RunRecord], ours: str, profile: str, remark: str
) -> None:
    line = paper_lines(markdown(*records, suites=[suite()]))[0]
    assert (line[5], line[9], line[10]) == (ours, profile, remark)


def test_the_full_recipe_of_another_row_is_not_this_ones() -> None:
    mistaken = spec(label=label(profile="full", published="ptb-char/qrnn"))
    assert paper_lines(markdown(record(1.5, spec_=mistaken), suites=[suite()]))[1][10] != "full recipe"


def test_every_ranking_has_a_heading() -> None:
    text = markdown(record(1.65))
    headings = re.findall("^## (.*)$", text, re.MULTILINE)
    assert headings[0] == "The paper's rows"
    # Those of the paper's rows in its order, then the others.
    assert headings[1:5] == [
        "Penn Treebank (Character Level): Bit per Character (BPC), test",
        "WikiText-103: Test perplexity",
        "WikiText-103: Validation perplexity",
        "Hutter Prize: Bit per Character (BPC), test",
    ]
    assert len(headings) == len(set(headings))
    assert "`harness table results --save`" in text
    assert all(row.source in text for row in PUBLISHED)


def test_equal_records_make_equal_text() -> None:
    runs = [record(1.6, spec_=spec(seed=1), timings=[timed()]), record(1.7, spec_=spec(seed=2)),
            failed(spec_=spec(seed=3))]  # fmt: skip
    first = markdown(*runs)
    assert first.endswith(kernel_table([timed()]))
    for seed in range(4):
        random.Random(seed).shuffle(runs)
        assert markdown(*runs) == first
    assert "2026" not in first


@pytest.mark.parametrize("profile", ["full", "quick"])
def test_installed_suites_are_compared_under_every_profile(tmp_path: Path, profile: str) -> None:
    entry = next(entry for entry in load("suites/ptb-char.yaml", profile=profile).entries if entry.name == "awd-lstm")
    assert entry.recipe is not None
    store = Store(tmp_path)
    for lr in entry.recipe.lr, 1e-6:
        changed = replace(entry.recipe, lr=lr)
        store.write(record(spec_=spec(label=label(profile=profile), model=entry.model, recipe=changed)))
    board = read_leaderboard(tmp_path)
    rows = [row for row in board.table().rows if row.status == "finished"]
    assert sorted((row.split, row.changed) for row in rows) == [
        (split, changed) for split in ("test", "valid") for changed in (False, True)
    ]
    assert len({row.recipe_id for row in rows}) == 2
    assert f"{profile}, changed" in board.text("github")
    assert f"{profile}, changed" in board.save().read_text()


def test_each_record_and_suite_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    for seed in (1, 2):
        store.write(record(spec_=spec(seed=seed)))
    reads: Counter[Path] = Counter()
    real = reading.open_regular

    def count(path: Path) -> Any:
        reads[path] += 1
        return real(path)

    monkeypatch.setattr(reading, "open_regular", count)
    # A broken suite costs one line.
    folder = tmp_path / "suites"
    shutil.copytree(loader.SUITES, folder)
    (folder / "broken.yaml").write_text("suite: broken\nmetrics: [bcp\n")
    monkeypatch.setattr(loader, "SUITES", folder)
    done = call("table", tmp_path, "--save")
    assert done.exit_code == 0, done.output
    records = {store.run_folder(spec(seed=seed).run_id) / "record.json" for seed in (1, 2)}
    expected = records | set(loader.suite_files())
    assert {path: reads[path] for path in expected} == dict.fromkeys(expected, 1)
    assert [line for line in done.stderr.splitlines() if f"suite skipped: {folder}/broken.yaml:" in line]


def test_the_frame_is_the_table(tmp_path: Path) -> None:
    Store(tmp_path).write(record(1.5))
    frame = harness.leaderboard(tmp_path)
    rows = json.loads(read_leaderboard(tmp_path).text("json"))
    assert frame["model"].tolist() == [row["model"] for row in rows]
    assert frame.loc[frame["status"] == "finished", "value"].tolist() == [1.5, 1.6]
    with pytest.raises(StoreError, match="holds no records"):
        harness.leaderboard(tmp_path / "nothing")


def test_text_and_markdown_need_neither_torch_nor_pandas() -> None:
    code = (
        "import sys; from pathlib import Path; from harness.regression import check; from harness import report\n"
        "board = report.read_leaderboard(Path('results')); board.markdown()\n"
        "for fmt in ('github', 'latex', 'csv', 'json'): board.text(fmt)\n"
        "heavy = {'torch', 'pandas'} & set(sys.modules); sys.exit(f'{heavy} came along' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
