"""Text from outside holds nothing that a terminal obeys."""

from __future__ import annotations

import errno
import json
import re
import unicodedata
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from harness.core.errors import HarnessError
from harness.core.messages import control_character, crash, cut, near, one_line, printable, printable_lines, reason
from harness.runs.reporter import Bars
from harness.system.source import ROOT
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


FULL = OSError(errno.ENOSPC, "No space left on device", "/results/x")


@pytest.mark.parametrize(
    ("error", "said", "with_path"),
    [
        (FULL, "No space left on device", "/results/x: No space left on device"),
        (OSError("no such thing"), "no such thing", "no such thing"),
        (KeyError("name"), "'name' is missing", "'name' is missing"),
        (MemoryError(), "out of memory", "out of memory"),
        (AssertionError(), "no reason is given", "no reason is given"),
        (ValueError("two\n  lines\x1b"), "two lines\N{REPLACEMENT CHARACTER}", "two lines\N{REPLACEMENT CHARACTER}"),
        (RuntimeError("x" * 5000), "x" * 297 + "...", "x" * 297 + "..."),
    ],
)
def test_a_reason_is_one_line_without_the_class_of_the_error(error: Exception, said: str, with_path: str) -> None:
    assert (reason(error), reason(error, with_path=True)) == (said, with_path)


@given(st.text(max_size=400), st.sampled_from([ValueError, KeyError, AssertionError, json.JSONDecodeError]))
def test_a_crash_is_one_line_with_class_and_place(text: str, kind: type[Exception]) -> None:
    with pytest.raises(kind) as info:
        raise kind(text, "", 0) if kind is json.JSONDecodeError else kind(text)
    said, line = crash(info.value), info.value.__traceback__.tb_lineno
    assert said.startswith(f"{kind.__name__} in core/test_messages.py:{line}: {reason(info.value)[:200]}")
    assert control_character(said) is None
    assert len(said) <= 300


def test_what_is_expected_is_told_without_class_and_place() -> None:
    assert crash(FULL) == "/results/x: No space left on device"
    assert crash(MemoryError()) == "out of memory"
    assert crash(HarnessError("a.yaml: no such key")) == "a.yaml: no such key"


def test_only_one_function_makes_a_reason_of_an_exception() -> None:
    sources = {path: path.read_text() for path in (ROOT / "harness").rglob("*.py") if path.name != "messages.py"}
    assert [str(path) for path, text in sources.items() if re.search(r"type\((error|problem)\)\.__name__", text)] == []


@given(st.text(max_size=300), st.integers(4, 80))
def test_a_cut_text_is_as_long_as_allowed(text: str, most: int) -> None:
    whole, short = one_line(text), cut(text, most)
    assert short == whole if len(whole) <= most else len(short) <= most and whole.startswith(short[:-3])


@pytest.mark.parametrize("text", ["[/b]", "[red]x[/red]", "[/x", "\x1b[31mx\a"])
def test_progress_shows_names_and_errors_as_they_are(text: str) -> None:
    bars = Bars()
    bars.bars.stop()
    bars.console = bars.bars.live.console = Console(file=(file := StringIO()), width=200, force_terminal=True)
    bars.start(text, "bpc")
    bars.event(Problem(text=text))
    Console(file=file, width=200).print(bars.bars.make_tasks_table(bars.bars.tasks))
    assert file.getvalue().count(printable(text)) >= 2


def test_a_known_name_is_listed_once() -> None:
    assert near("zzz", ["b", "a", "b"]) == " Known: a, b."
