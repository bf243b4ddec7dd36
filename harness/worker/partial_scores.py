"""Scores of a run that is not finished: a leg that ends between two splits leaves the first one's behind."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from harness.core.json_values import parse_value
from harness.core.scores import Score
from harness.results.record_file import plain
from harness.system.files import write_atomic

SCORES = "scores.json"


class KeptScores:
    """Rows of splits already scored, in a file beside the checkpoints.

    of names the weights, the protocols' settings and the code; rows of anything else are passed over. The file is a
    saving of time alone: where it cannot be read or written, the splits are scored again.
    """

    def __init__(self, path: Path, of: str) -> None:
        self.path, self.of = path, of
        self.rows: list[Score] = []
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["of"] == of:
                self.rows = [parse_value(Score, row) for row in found["rows"]]

    def find(self, protocol: str, split: str) -> Score | None:
        """The row of a split under a protocol, or None."""
        return next((row for row in self.rows if (row.protocol.name, row.split) == (protocol, split)), None)

    def add(self, row: Score) -> None:
        """Keep a row from now on."""
        self.rows.append(row)
        with suppress(OSError, ValueError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.path, json.dumps({"of": self.of, "rows": [plain(row, self.path) for row in self.rows]}))


def forget(path: Path) -> None:
    """A record that is written holds them now. Without a file, nothing happens."""
    with suppress(OSError):
        path.unlink()
