"""What is carried home from a borrowed machine: one archive, a picture, the newest run's weights in small files."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

AT_HOME = ("reproduction.json", "LEADERBOARD.md", "plans", "bench", "logs", "runs")
NOT_AT_HOME = ("checkpoints", "calibration")


def pack(results: Path, home: Path, harness: Callable[[Sequence[str]], int], *, weights: bool) -> None:
    """Records, curves, plans and logs as one archive, the curves as a picture; of the newest finished run also the
    best weights as shards.

    harness runs one of its commands. Where the picture cannot be drawn, the archive still has the curves. Weights that
    an earlier leg put here are removed: a way home that takes few files takes one run's.
    """
    home.mkdir(parents=True, exist_ok=True)
    harness(["curves", str(results), "--along", "minutes", "--out", str(home / "curves.svg")])
    with tarfile.open(home / "records.tar.gz", "w:gz") as archive:
        for name in AT_HOME:
            if (results / name).exists():
                archive.add(results / name, arcname=name, filter=_without_checkpoints)
    finished = [
        path for path in (results / "runs").glob("*/record.json") if (path.parent / "checkpoints/best").is_dir()
    ]
    if not weights or not finished:
        return
    newest = max(finished, key=lambda path: path.stat().st_mtime).parent
    for run in (results / "runs").iterdir():
        if run.name != newest.name and (home / run.name).is_dir():
            shutil.rmtree(home / run.name)
    if not (home / newest.name).exists():
        harness(["export", str(newest / "checkpoints" / "best"), "--out", str(home / newest.name)])


def _without_checkpoints(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if set(Path(member.name).parts) & set(NOT_AT_HOME) else member
