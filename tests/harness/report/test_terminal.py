"""Tables in pseudo-terminals of several widths."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
from pathlib import Path

import pytest
from forking import write_python
from record_factory import failed, label, record, spec, timed
from rich.console import Console

from harness.report import print_leaderboard, read_leaderboard
from harness.results.store import Store
from harness.system.source import ROOT, SEARCH_PATH

fcntl = pytest.importorskip("fcntl")
termios = pytest.importorskip("termios")

TITLE = "[red]AWD-LSTM[/red] :smile: x"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = Store(tmp_path_factory.mktemp("results"))
    store.write(record(1.65, spec_=spec(label=label(title=TITLE)), timings=[timed()]))
    store.write(failed(spec_=spec(label=label(entry="lost", title="Lost run"), seed=2)))
    return store.root


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python whose commands are forks of a process with imported libraries."""
    path = tmp_path_factory.mktemp("bin") / "python"
    write_python(path)
    return path


def on_terminal(python: Path, width: int, *arguments: object, **environment: str) -> str:
    """What a command writes to a terminal of so many columns."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    variables = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    variables |= {"TERM": "xterm-256color", "PYTHONPATH": SEARCH_PATH, **environment}
    command = [str(python), "-m", "harness", *map(str, arguments)]
    written = b""
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=subprocess.PIPE, env=variables) as process:
        os.close(slave)
        try:
            while chunk := os.read(master, 65536):
                written += chunk
        except OSError:  # how Linux says that the other end is closed
            pass
        assert process.wait() == 0, process.stderr and process.stderr.read()
    os.close(master)
    return written.decode().replace("\r\n", "\n")


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def first_lines(text: str) -> list[str]:
    """The lines of the first section, from the names of its columns on."""
    lines = text.split("\n\n")[0].splitlines()
    return lines[next(index for index, line in enumerate(lines) if "Value" in line) :]


@pytest.mark.parametrize(
    ("width", "shown", "hidden"),
    [
        (40, ["Model", "Value"], ["Difference", "Published", "Profile", "Device"]),
        (80, ["#", "Model", "Value", "Published", "Difference", "Profile"], ["Device", "Protocol", "Source"]),
        (200, ["#", "Model", "Value", "Std. error", "Published", "Difference", "Params", "Seeds", "Tokens/s", "Seconds",
               "Device", "Profile", "Protocol", "Source"], []),
    ],
)  # fmt: skip
def test_the_most_important_columns_that_fit_are_shown(
    results: Path, python: Path, width: int, shown: list[str], hidden: list[str]
) -> None:
    text = plain(on_terminal(python, width, "table", results))
    assert max(map(len, text.splitlines())) <= width
    headings = re.split(r" {2,}", first_lines(text)[0].strip())
    assert [name for name in headings if name in shown] == shown
    words = " ".join(text.split())
    note = words[words.index("Not shown:") :]
    assert all(name in note for name in hidden)
    # Its column or a line of its own says why a run failed.
    assert "out of memory at step 12" in words
    assert ("--columns" in note) == bool(hidden)
    assert "the kernels that runs timed" in note


def test_our_rows_come_first_then_the_ones_they_are_compared_with(results: Path, python: Path) -> None:
    lines = first_lines(plain(on_terminal(python, 200, "table", results)))[1:]
    assert [re.split(r" {2,}", line.strip())[1] for line in lines[:4]] == [
        TITLE, "Lost run", "3-layer AWD-LSTM", "Mogrifier RLSTM"
    ]  # fmt: skip


def test_markup_in_titles_is_text_and_no_color_is_respected(results: Path, python: Path) -> None:
    colored = on_terminal(python, 120, "table", results)
    without = on_terminal(python, 120, "table", results, NO_COLOR="1")
    for text in (colored, without):
        assert "[red]AWD-LSTM[/red] :smile:" in plain(text)
    assert re.search(r"\x1b\[[0-9;]*3[0-7]m", colored)
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", without)
    assert plain(colored) == plain(without)


@pytest.mark.parametrize("option", [("--format", "github"), ("--columns", "Model,Source")])
def test_a_named_format_or_columns_are_shown_complete(results: Path, python: Path, option: tuple[str, str]) -> None:
    text = on_terminal(python, 40, "table", results, *option)
    assert text.startswith("|")
    assert "arXiv:1803.08240" in text
    command = [str(python), "-m", "harness", "table", str(results), *option[2:]]
    piped = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert piped == text or "--columns" in option, "a pipe gets the complete table"


def test_the_leaderboard_of_a_run_has_ours_and_the_rows_we_compare_with(results: Path) -> None:
    console = Console(file=io.StringIO(), width=80)
    board = read_leaderboard(results)
    print_leaderboard(board, console, context=False)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "3-layer AWD-LSTM" in text
    assert "Mogrifier" not in text
    num_context = sum(not row.is_ours for row in board.table().rows) - 1
    assert f"{num_context} other published rows" in " ".join(text.split())
