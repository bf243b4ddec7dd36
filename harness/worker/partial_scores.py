"""Scores of a run that is not finished: a leg that ends between two splits leaves the first one's behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.system.files import write_atomic

SCORES = "scores.json"


class KeptScores:
    """Rows of splits already scored, in a file beside the checkpoints.

    of names the weights, the protocols' settings and the code; rows of anything else are passed over. The file is a
    saving of time alone: where it cannot be read or written, the splits are scored again.
    """

    def __init__(self, path: Path, of: str) -> None:
        self.path, self.of = path, of
        self.rows: list[dict[str, Any]] = []
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["of"] == of:
                self.rows = [dict(row) for row in found["rows"]]

    def find(self, protocol: str, split: str) -> dict[str, Any] | None:
        """The row of a split under a protocol, or None."""
        return next((row for row in self.rows if _place(row) == (protocol, split)), None)

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a row from now on."""
        self.rows.append(dict(row))
        with suppress(OSError, ValueError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.path, json.dumps({"of": self.of, "rows": self.rows}))


def forget(path: Path) -> None:
    """A record that is written holds them now. Without a file, nothing happens."""
    with suppress(OSError):
        path.unlink()


def _place(row: Mapping[str, Any]) -> tuple[Any, Any]:
    protocol = row.get("protocol")
    return (protocol.get("name") if isinstance(protocol, Mapping) else None, row.get("split"))
