"""Draw docs/leaderboard.svg: `python docs/picture.py`.

It shows the sections of results/ as a terminal does where a test value is compared with a published one.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console
from rich.text import Text

from harness.report import print_leaderboard, read_leaderboard

PATH = Path(__file__).with_name("leaderboard.svg")
WIDTH = 110


def console() -> Console:
    """The sections of test splits with a difference from a published value, in a console that records them."""
    printed = io.StringIO()
    terminal = Console(file=printed, width=WIDTH, force_terminal=True, color_system="truecolor")
    print_leaderboard(read_leaderboard(PATH.parents[1] / "results"), terminal, context=False)
    sections = printed.getvalue().split("\n\n")
    recorder = Console(record=True, width=WIDTH, file=io.StringIO())
    for section in sections:
        heading, *rows = Text.from_ansi(section).plain.splitlines()
        if re.search(r"(, test|: Test perplexity)\s*$", heading) and any(
            re.search(r" [+-]\d+\.\d", row) for row in rows
        ):
            recorder.print(Text.from_ansi(section), end="\n\n")
    return recorder


if __name__ == "__main__":
    PATH.write_text(console().export_svg(title="harness table", unique_id="leaderboard"), encoding="utf-8")
