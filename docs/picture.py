"""Draw docs/leaderboard.svg, the leaderboard of results/ as a terminal shows it: `python docs/picture.py`."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from harness.report import print_leaderboard, read_leaderboard

PATH = Path(__file__).with_name("leaderboard.svg")
WIDTH = 110


def console() -> Console:
    """The leaderboard of the committed records, recorded."""
    recorder = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    print_leaderboard(read_leaderboard(PATH.parents[1] / "results"), recorder, context=False)
    return recorder


if __name__ == "__main__":
    PATH.write_text(console().export_svg(title="harness table", unique_id="leaderboard"), encoding="utf-8")
