"""Build the page of a results folder, and keep it current."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import writing
from harness.core.messages import count
from harness.report.formats import write
from harness.report.leaderboard import Leaderboard, read_leaderboard
from harness.report.page.content import gather
from harness.report.page.curves import AXES
from harness.report.page.extra import check_extra
from harness.report.page.front import COSTS
from harness.report.page.runs import RunPage, run_page
from harness.report.page.targets import targets_of
from harness.results.store import RECORD
from harness.system.files import refuse_links, remove_tree, write_atomic
from harness.system.reading import read_bytes

INDEX, RUNS, DATA = "index.html", "runs", "data.json"
VIEWS = (
    ("paper", "Paper"),
    ("leaderboards", "Leaderboards"),
    ("curves", "Curves"),
    ("costs", "Costs"),
    ("kernels", "Kernels"),
    ("pairs", "Comparisons"),
    ("runs", "Runs"),
)


@dataclass(frozen=True, slots=True)
class Built:
    """What was built: the page's file, how many runs and bytes it has, and what could not be read."""

    index: Path
    num_runs: int
    num_bytes: int
    problems: tuple[str, ...]
    num_unreadable: int


def build(results: Path, out: Path, *, show_text: bool = False) -> Built:
    """Write the page of a results folder: index.html, data.json with the rows of the leaderboards, and runs/.

    Args:
        results: the folder of the records.
        out: the folder of the page; its other files stay.
        show_text: whether comparisons show the text that was scored, which a licence may forbid.

    Returns:
        What was built. The same records give the same bytes.

    Raises:
        HarnessError: the extra `report` is not installed.
        StoreError: there is no record, or the page cannot be written.
    """
    check_extra()
    board = read_leaderboard(results)
    board.check_not_empty()
    files = _files(board, show_text)
    with writing(out):
        refuse_links(out, out)
        for old in (out / RUNS).glob("*.html"):
            if f"{RUNS}/{old.name}" not in files:
                remove_tree(old)
        for name, text in files.items():
            path = out / name
            # Unchanged pages keep their time: a synchronised copy then sends only new pages.
            content = text.encode()
            if not _holds(path, content):
                write_atomic(path, content)
    num_bytes = sum(len(text.encode()) for text in files.values())
    return Built(out / INDEX, len(board.records), num_bytes, board.problems, board.num_unreadable)


def watch(results: Path, out: Path, *, show_text: bool = False, every_s: float = 2.0) -> Iterator[Built | None]:
    """Build the page, then again each time a record changes; ends only with its process.

    Args:
        results, out, show_text: as for `build`.
        every_s: seconds between two looks at the folder.

    Yields:
        What was built; None while the folder holds no record.
    """
    check_extra()
    seen: list[tuple[Path, int]] | None = None
    while True:
        now = _stamp(results)
        if now != seen:
            seen = now
            yield None if not now else build(results, out, show_text=show_text)
        time.sleep(every_s)


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(content) and read_bytes(path, len(content)) == content


def _stamp(results: Path) -> list[tuple[Path, int]]:
    records = sorted(results.glob(f"runs/*/{RECORD}"))
    paths = [*records, *sorted(results.glob("bench/*.json"))] if records else []
    stamp = []
    for path in paths:
        # A run that begins again moves its record.
        with suppress(FileNotFoundError):
            stamp.append((path, path.stat().st_mtime_ns))
    return stamp


def _files(board: Leaderboard, show_text: bool) -> dict[str, str]:
    """Name of each file of the page -> its text."""
    # The libraries of charts take half a second to load.
    from harness.report.page import render
    from harness.report.page.figures import draw_all
    from harness.report.page.run_drawings import curve_of, trace_of

    content = gather(board, show_text=show_text)
    figures = draw_all(content)
    pages = {record.run_id: f"{RUNS}/{record.run_id}.html" for record, _ in board.records}
    runs = [run_page(record, labels, board.suites) for record, labels in board.records]
    files = {
        INDEX: render.page(
            "index.html",
            title=f"Runs of {board.root.resolve().name}",
            lead=_lead(board, runs),
            foot=f"Built from {count(len(runs), 'record')} by harness report. Each number is that of harness table.",
            views=VIEWS,
            problems=(*(board.problems if board.num_unreadable else ()), *content.problems),
            content=content,
            datasets=list(dict.fromkeys(each.dataset for each in content.boards)),
            splits=list(dict.fromkeys(each.split for each in content.boards)),
            figures=figures,
            targets=[targets_of(panel) for panel in content.panels],
            pages=pages,
            runs=runs,
            axes=AXES,
            costs=COSTS,
            show_text=show_text,
        ),
        # Without the blanks that `harness table --format json` has for a reader.
        DATA: json.dumps(json.loads(write(content.table, "json")), separators=(",", ":")) + "\n",
    }
    for run in runs:
        name = pages[run.record.run_id]
        files[name] = render.page(
            "run.html", run=run, curve=curve_of(run.record, run.labels[0]), trace=trace_of(run.record)
        )
    return files


def _lead(board: Leaderboard, runs: list[RunPage]) -> str:
    if not runs:
        return "No record of this folder can be read, so there is nothing to show."
    finished = sum(run.record.status == "finished" for run in runs)
    datasets = len({run.labels[0].dataset for run in runs})
    dates = sorted(run.record.started_at[:10] for run in runs if run.record.started_at)
    newest = f", the newest of {dates[-1]}" if dates else ""
    return f"{count(len(runs), 'run')} on {count(datasets, 'dataset')}, {finished} finished{newest}."
