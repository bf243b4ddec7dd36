"""The tries at one run, kept beside its checkpoints: when each began, how it went, and what it cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.system.files import write_atomic

RUNNING, KILLED = "running", "killed"


class Attempts:
    """Rows of started_at, seconds, status, costs and, once it is known, machine; the present try last.

    A try that was killed never said how it went: the next one finds it still running, and calls it killed. Its
    seconds and costs are None until `recover` gives them. `startup`, what its process had spent before it was
    watched, stands in its row until its costs, which hold it too, do.
    """

    def __init__(self, folder: Path) -> None:
        """folder: the run's checkpoints, which need not be there yet."""
        self.folder = folder
        self.path = folder / "attempts.json"
        self.rows: list[dict[str, Any]] = []
        # Only a history: where it is damaged, the run is worth more than it.
        with suppress(OSError, ValueError, TypeError):
            self.rows = [dict(row) for row in json.loads(self.path.read_text(encoding="utf-8"))]
        for row in self.rows:
            if row.get("status") == RUNNING:
                row["status"] = KILLED

    def sensors(self, number: int | None = None) -> Path:
        """Folder of what the sensors of one try saw, counted from 1; of the present one by default."""
        return self.folder / "sensors" / str(len(self.rows) if number is None else number)

    def begin(self, started_at: str, startup: Mapping[str, float] | None = None) -> None:
        """A new try. startup: seconds and cpu_seconds of its process until now, None where nothing watches it.

        Raises OSError where it cannot be noted.
        """
        row: dict[str, Any] = {"started_at": started_at, "seconds": None, "status": RUNNING, "costs": None}
        self.rows.append(row if startup is None else {**row, "startup": dict(startup)})
        self._write()

    def end(self, seconds: float, status: str, costs: Mapping[str, Any] | None) -> None:
        """How the present try went. Raises OSError where it cannot be noted."""
        self.rows[-1].update(seconds=seconds, status=status, costs=costs)
        self.rows[-1].pop("startup", None)
        self._write()

    def on(self, fingerprint: str) -> None:
        """Which machine the present try is on. Raises OSError where it cannot be noted."""
        self.rows[-1]["machine"] = fingerprint
        self._write()

    def machines(self) -> list[str]:
        """Fingerprints of the machines the tries were on, each once, in their order."""
        return list(dict.fromkeys(row["machine"] for row in self.rows if row.get("machine")))

    def recover(self, number: int, seconds: float | None, costs: Mapping[str, Any]) -> None:
        """What a killed try had spent, read from what its sensors left behind; its `startup` goes to its costs."""
        row = self.rows[number - 1]
        row.update(seconds=seconds, costs=dict(costs))
        if "startup" in row:
            row["costs"]["startup"] = row.pop("startup")

    def for_record(self) -> list[dict[str, Any]]:
        """The rows. Of a single try the record's own costs are the costs, and its row does not repeat them."""
        if len(self.rows) > 1:
            return self.rows
        return [{key: value for key, value in row.items() if key != "costs"} for row in self.rows]

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, json.dumps(self.rows))
