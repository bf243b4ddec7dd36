"""Progress of downloads: a bar on a terminal, or a line for every tenth of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from rich.console import Console

# Called with a file's name, the bytes received so far, and its size in bytes.
Progress: TypeAlias = Callable[[str, int, int], None]


@contextmanager
def download_bars(console: Console | None = None) -> Iterator[Progress]:
    """Yield a callback for `prepare` that draws one rich bar per file."""
    from rich import progress

    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.DownloadColumn())
    rate = (progress.TransferSpeedColumn(), progress.TimeRemainingColumn())
    with progress.Progress(*columns, *rate, console=console, transient=True) as bars:
        tasks = {}

        def advance(filename: str, num_bytes: int, size: int) -> None:
            if filename not in tasks:
                tasks[filename] = bars.add_task(filename, total=size)
            bars.update(tasks[filename], completed=num_bytes)

        yield advance


def download_lines(write: Callable[[str], None]) -> Progress:
    """Return a callback for `prepare` that writes a line at a file's start and after every tenth of it."""
    tenths: dict[str, int] = {}

    def advance(filename: str, num_bytes: int, size: int) -> None:
        tenth = 10 * num_bytes // size
        if tenths.get(filename) != tenth:
            tenths[filename] = tenth
            write(f"downloading {filename}: {num_bytes / 1e6:.1f} of {size / 1e6:.1f} MB")

    return advance
