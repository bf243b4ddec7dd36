"""The generated leaderboard: six rows of the paper, each with a value or a reason that was derived."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

from record_factory import failed, label, recipe, record, spec

from harness.config.evaluation import Evaluation
from harness.core.specs import Entry, Suite
from harness.report.leaderboard import leaderboard
from harness.results import published

PUBLISHED = published.load(published.find())


def suite(name: str = "ptb-char", row: str | None = "ptb-char/awd-lstm", **changes: Any) -> Suite:
    entry = Entry("awd-lstm", "AWD-LSTM", spec().model, spec().recipe, None, row, "float32", "auto")
    return Suite(
        **{
            "path": Path("suite.yaml"),
            "name": name,
            "task": "Language Modelling",
            "profile": "full",
            "profiles": ("full", "quick"),
            "dataset": {"name": name},
            "dataset_title": name,
            "metrics": ("bpc",),
            "evaluation": Evaluation(),
            "seeds": (1,),
            "entries": (entry,),
            "published": (),
            "checkpoint_every_s": 60.0,
            **changes,
        }
    )


def text_of(*records: Any, suites: Any = ()) -> str:
    runs = [(run, [run.spec.label]) for run in records]
    return leaderboard(runs, PUBLISHED, suites=suites, regenerate="harness table results --save")


def paper_lines(text: str) -> list[list[str]]:
    """Cells of the first table's body."""
    section = text.split("## ")[1]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_all_six_rows_stand_there_without_any_record() -> None:
    lines = paper_lines(text_of())
    assert [line[1:5] for line in lines] == [
        ["Penn Treebank (Character Level)", "Bit per Character (BPC)", "1.175", "3-layer AWD-LSTM"],
        ["Penn Treebank (Character Level)", "Bit per Character (BPC)", "1.187", "6-layer QRNN"],
        ["WikiText-103", "Test perplexity", "33", "4 layer QRNN"],
        ["WikiText-103", "Validation perplexity", "32", "4 layer QRNN"],
        ["Hutter Prize", "Bit per Character (BPC)", "1.232", "3-layer AWD-LSTM"],
        ["enwik8", "Bit per Character (BPC)", "1.232", "AWD-LSTM (3 layers)"],
    ]
    assert [line[5] for line in lines] == ["none yet"] * 6
    assert lines[2][-1] == "no suite for WikiText-103 is installed"


def test_a_suite_without_a_run_is_named() -> None:
    lines = paper_lines(text_of(suites=[suite()]))
    assert lines[0][-1] == "no finished run of the full recipe among these records; suite ptb-char has it"
    assert lines[1][-1] == "no suite with an entry for this row is installed"
    assert lines[4][-1] == "no suite for Hutter Prize is installed"


def test_a_quick_run_is_shown_as_what_it_is() -> None:
    line = paper_lines(text_of(record(1.65), suites=[suite()]))[0]
    assert line[5:] == [
        "1.650",
        "+0.475",
        "13.8M",
        "1",
        "quick",
        "no finished run of the full recipe among these records; suite ptb-char has it",
    ]


def test_the_full_recipe_goes_before_a_better_quick_run() -> None:
    full = record(1.18, spec_=spec(label=label(profile="full")))
    quick = record(1.1, spec_=spec(seed=2))
    line = paper_lines(text_of(quick, full, suites=[suite()]))[0]
    assert (line[5], line[9], line[10]) == ("1.180", "full", "full recipe")


def test_a_recipe_changed_by_hand_is_not_the_full_recipe() -> None:
    changed = spec(label=label(profile="full"), recipe=recipe(epochs=1))
    line = paper_lines(text_of(record(1.5, spec_=changed), suites=[suite()]))[0]
    assert (line[5], line[9]) == ("1.500", "full, changed")
    assert line[10].startswith("no finished run of the full recipe")


def test_anybodys_suite_is_not_the_full_recipe() -> None:
    toy = spec(label=label(suite="toy", profile="full"), model={**spec().model, "hidden": 8})
    line = paper_lines(text_of(record(1.5, spec_=toy), suites=[suite()]))[0]
    assert (line[5], line[9]) == ("1.500", "full, changed")
    assert line[10].startswith("no finished run of the full recipe")


def test_the_full_recipe_of_another_row_is_not_this_ones() -> None:
    mistaken = spec(label=label(profile="full", published="ptb-char/qrnn"))
    assert paper_lines(text_of(record(1.5, spec_=mistaken), suites=[suite()]))[1][10] != "full recipe"


def test_a_recipe_changed_by_hand_is_marked_in_every_ranking() -> None:
    quick = suite(profile="quick")
    as_shipped = record(1.6, spec_=spec(seed=1))
    changed = record(1.5, spec_=spec(seed=2, recipe=recipe(lr=1e-6)))
    text = text_of(as_shipped, changed, suites=[suite(), quick])
    ranking = text.split("## Penn Treebank (Character Level): Bit per Character (BPC), test")[1].split("## ")[0]
    profiles = {value: line for line in ranking.splitlines() for value in ("1.500", "1.600") if f" {value} " in line}
    assert "| quick, changed |" in re.sub(" +", " ", profiles["1.500"])
    assert "| quick |" in re.sub(" +", " ", profiles["1.600"])


def test_a_failed_run_gives_its_error() -> None:
    line = paper_lines(text_of(failed(spec_=spec(label=label(profile="full"))), suites=[suite()]))[0]
    assert (line[5], line[10]) == ("failed", "the run of profile full failed: out of memory at step 12")


def test_every_ranking_stands_under_its_heading() -> None:
    text = text_of(record(1.65))
    headings = re.findall("^## (.*)$", text, re.MULTILINE)
    assert headings[0] == "The paper's rows"
    assert "Penn Treebank (Character Level): Bit per Character (BPC), test" in headings
    assert "WikiText-103: Validation perplexity, valid" in headings
    assert len(headings) == len(set(headings))
    assert "`harness table results --save`" in text
    for row in PUBLISHED:
        assert row.source in text


def test_equal_records_make_equal_text() -> None:
    runs = [record(1.6, spec_=spec(seed=1)), record(1.7, spec_=spec(seed=2)), failed(spec_=spec(seed=3))]
    first = text_of(*runs)
    for seed in range(4):
        random.Random(seed).shuffle(runs)
        assert text_of(*runs) == first
    assert "2026" not in first
