"""Learning curves as a picture: lines against records, and what is refused."""

from __future__ import annotations

import html
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from record_factory import failed, label, record, spec

from harness.core.errors import HarnessError, StoreError
from harness.report import curves, figures
from harness.results.published import PublishedRow

PAPER = PublishedRow(
    "ptb-char/awd-lstm", "Language Modelling", "ptb-char", "bpc", "test", 1.175, "3-layer AWD-LSTM", None, "x",
    paper=True, decimals=3,
)  # fmt: skip
CURVE = [
    {"tokens": 500_000, "step": 10, "train_nll_nats": 2.0, "valid_nll_nats": 1.5, "is_best": True},
    {"tokens": 1_000_000, "step": 20, "valid_nll_nats": 1.0, "is_best": True, "averaged": True},
    {"tokens": 1_500_000, "step": 30, "train_nll_nats": 0.5, "valid_nll_nats": 1.25, "is_best": False,
     "averaged": True},
    {"tokens": 1_600_000, "step": 31, "train_nll_nats": 0.5},
    {"valid_nll_nats": 1.5, "tokens": None, "step": None},
]  # fmt: skip


def drawn(**changes: Any) -> curves.Line:
    made = record(1.5, curve=CURVE, **changes)
    (lines,) = curves.panels([(made, [made.spec.label])], [PAPER]).values()
    return lines[0]


def test_a_line_is_the_curve_in_the_metric_of_its_label() -> None:
    line = drawn()
    assert list(line.x) == pytest.approx([0.5, 1.0, 1.5])
    assert list(line.valid) == pytest.approx([1.5 * math.log2(math.e), math.log2(math.e), 1.25 * math.log2(math.e)])
    assert line.train[0] == pytest.approx(2 * math.log2(math.e))
    assert math.isnan(line.train[1])
    assert (line.best, line.averaged, line.test, line.published) == (1, 1, 1.5, PAPER)


def test_words_are_drawn_in_perplexity_in_a_panel_of_their_own() -> None:
    words = spec(label=label(dataset="Penn Treebank (Word Level)", metrics=("perplexity",)), seed=2)
    records = [(made, [made.spec.label]) for made in (record(curve=CURVE), record(90.0, spec_=words, curve=CURVE))]
    panels = curves.panels(records, [PAPER])
    assert [(name, len(lines)) for (_, name), lines in panels.items()] == [("bpc", 1), ("perplexity", 1)]
    (line,) = panels["Penn Treebank (Word Level)", "perplexity"]
    assert list(line.valid) == pytest.approx([math.exp(1.5), math.e, math.exp(1.25)])
    assert line.published is None


@pytest.mark.parametrize("ending", figures.ENDINGS)
def test_the_same_records_give_the_same_bytes(tmp_path: Path, ending: str) -> None:
    panels = {("text", "bpc"): [drawn()], ("words", "perplexity"): [drawn()]}
    for name in ("a", "b"):
        curves.draw(panels, tmp_path / "new" / f"{name}{ending}")
    first, second = ((tmp_path / "new" / f"{name}{ending}").read_bytes() for name in ("a", "b"))
    assert first == second
    assert len(first) > 1000


def test_a_vector_picture_names_runs_and_published_rows(tmp_path: Path) -> None:
    curves.draw({("text", "bpc"): [drawn()]}, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    for words in ("2-layer AWD-LSTM", "test 1.5", "3-layer AWD-LSTM, x: test 1.175", "in millions"):
        assert words in text


def test_a_name_is_no_formula_and_always_in_the_legend(tmp_path: Path) -> None:
    names = ["_under", r"$\frac{", "a $x$ <b> & c"]
    lines = [drawn(spec_=spec(label=label(title=name))) for name in names]
    curves.draw({(r"50 $\%", "bpc"): lines}, tmp_path / "a.svg")
    text = html.unescape((tmp_path / "a.svg").read_text())
    assert all(name in text for name in (*names, r"50 $\%"))


def test_what_cannot_be_drawn_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = {("text", "bpc"): [drawn()]}
    with pytest.raises(HarnessError, match=r"a\.gif: a picture's name ends in \.svg, \.png or \.pdf"):
        curves.draw(lines, tmp_path / "a.gif")
    with pytest.raises(HarnessError, match="no curve to draw"):
        curves.draw(curves.panels([(failed(curve=[]), [label()])], []), tmp_path / "a.svg")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        curves.draw(lines, tmp_path / "file" / "a.svg")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(HarnessError, match=r"pip install 'lm-harness\[plot\]'"):
        curves.draw(lines, tmp_path / "a.svg")
