"""Scores of an unfinished run, stored so that the next invocation does not take them again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.system.files import write_atomic

SCORES = "scores.json"


class PartialScores:
    """Score rows in a file next to the checkpoints. A file that cannot be read or written only costs time."""

    def __init__(self, folder: Path, of: str) -> None:
        """Read the scores of an earlier invocation.

        Args:
            folder: the run's checkpoints.
            of: hash of weights, protocols and code; rows of anything else are ignored.
        """
        self.path, self.of = folder / SCORES, of
        self.rows: list[dict[str, Any]] = []
        with suppress(OSError, ValueError, KeyError, TypeError):
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if content["of"] == of:
                self.rows = [dict(row) for row in content["rows"]]

    def find(self, protocol: str, split: str) -> dict[str, Any] | None:
        """The score of a split under a protocol, or None."""
        return next((row for row in self.rows if _key(row) == (protocol, split)), None)

    def add(self, row: Mapping[str, Any]) -> None:
        """Store one more score."""
        self.rows.append(dict(row))
        with suppress(OSError, ValueError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.path, json.dumps({"of": self.of, "rows": self.rows}))


def delete(folder: Path) -> None:
    """Delete the partial scores of a run whose record holds them."""
    with suppress(OSError):
        (folder / SCORES).unlink()


def _key(row: Mapping[str, Any]) -> tuple[Any, Any]:
    protocol = row.get("protocol")
    return (protocol.get("name") if isinstance(protocol, Mapping) else None, row.get("split"))
