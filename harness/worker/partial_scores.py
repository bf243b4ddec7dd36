"""Scores of an unfinished run, stored so that the next invocation does not take them again."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from harness.core.hashing import with_digest
from harness.core.json_values import FILE_BLOCK, parse_stamped
from harness.core.scores import Score
from harness.results.record_file import plain
from harness.system.files import remove_tree, write_atomic
from harness.system.reading import read_bytes

SCORES = "scores.json"


@dataclass(frozen=True, slots=True)
class _Content:
    """The file: scores, and a hash of the weights, protocols and code that they are of."""

    __pydantic_config__ = FILE_BLOCK

    of: str
    rows: list[Score] = field(default_factory=list)


class PartialScores:
    """Scores in a file next to the checkpoints. A file that cannot be read or written only costs time."""

    def __init__(self, folder: Path, of: str) -> None:
        """Read the scores of an earlier invocation.

        Args:
            folder: the run's checkpoints.
            of: hash of weights, protocols and code; scores of anything else are ignored.
        """
        self.path, self.content = folder / SCORES, _Content(of)
        with suppress(OSError, ValueError):
            content = parse_stamped(_Content, read_bytes(self.path))
            if content.of == of:
                self.content = content

    def find(self, protocol: str, split: str) -> Score | None:
        """The score of a split under a protocol, or None."""
        return next((row for row in self.content.rows if (row.protocol.name, row.split) == (protocol, split)), None)

    def add(self, score: Score) -> None:
        """Store one more score."""
        self.content.rows.append(score)
        # A full disk must not end a run that only has to write its record.
        with suppress(OSError):
            write_atomic(self.path, json.dumps(with_digest(plain(self.content, self.path))))


def delete(folder: Path) -> None:
    """Delete the partial scores of a run whose record holds them."""
    with suppress(OSError):
        remove_tree(folder / SCORES)
