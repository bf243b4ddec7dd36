"""Downloads made visible: a bar on a terminal, or a line now and then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from harness.data.download.http import Progress


@contextmanager
def download_bars(console: Console | None = None) -> Iterator[Progress]:
    """One rich bar per file while the block lasts; yields the callback that `prepare` takes as `progress`."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Bars(*columns, TransferSpeedColumn(), TimeRemainingColumn(), console=console, transient=True) as bars:
        tasks = {}

        def advance(filename: str, done: int, total: int | None) -> None:
            if filename not in tasks:
                tasks[filename] = bars.add_task(filename, total=total)
            bars.update(tasks[filename], completed=done, total=total)

        yield advance


def download_lines(say: Callable[[str], None], *, step: float = 0.1) -> Progress:
    """A callback for `prepare` that says one line at a file's start and after every further `step` of it."""
    said: dict[str, int] = {}

    def advance(filename: str, done: int, total: int | None) -> None:
        mark = int(done / total / step) if total else done // 10_000_000
        if said.get(filename) != mark:
            said[filename] = mark
            of_total = f" of {total / 1e6:.1f}" if total else ""
            say(f"downloading {filename}: {done / 1e6:.1f}{of_total} MB")

    return advance
