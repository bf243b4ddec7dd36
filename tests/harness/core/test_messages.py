"""Text from outside holds nothing that a terminal obeys."""

from __future__ import annotations

import unicodedata
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from harness.core.messages import control_character, printable, printable_lines
from harness.runs.reporter import Bars
from harness.worker.job import Problem


@given(st.text() | st.text(st.characters(categories=["Cc", "Cs", "Cf", "Zl", "Zp"])))
def test_printable_text_has_no_control_character_and_keeps_the_rest(text: str) -> None:
    shown = printable(text)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert not [c for c in shown if unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI")]
    assert len(shown) == len(text)
    assert [a for a, b in zip(text, shown, strict=True) if a != b] == [c for c in text if control_character(c)]
    assert printable(shown) == shown
    assert printable_lines(f"{text}\n") == printable_lines(text) + "\n"


@pytest.mark.parametrize("text", ["[/b]", "[red]x[/red]", "[/x", "\x1b[31mx\a"])
def test_progress_shows_names_and_errors_as_they_are(text: str) -> None:
    bars = Bars()
    bars.bars.stop()
    bars.console = bars.bars.live.console = Console(file=(file := StringIO()), width=200, force_terminal=True)
    bars.start(text, "bpc")
    bars.event(Problem(text=text))
    Console(file=file, width=200).print(bars.bars.make_tasks_table(bars.bars.tasks))
    assert file.getvalue().count(printable(text)) >= 2
