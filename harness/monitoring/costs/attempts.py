"""History of attempts at a run, including killed ones, in a file next to its checkpoints."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from harness.core.errors import writing
from harness.core.hashing import with_digest
from harness.core.json_values import parse_stamped
from harness.results.costs import Attempt, AttemptCosts, Startup
from harness.system.files import relocate, write_atomic
from harness.system.reading import read_bytes

RUNNING, KILLED = "running", "killed"


class Attempts:
    """Rows of all attempts, the present one last.

    A killed attempt never wrote its end: the next one finds it still running and calls it killed. Its seconds and costs
    are None until `recover` sets them. The methods that write raise StoreError.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` is that of the run's checkpoints; it need not exist."""
        self.folder = folder
        self.path = folder / "attempts.json"
        self.rows: list[Attempt] = []
        self.problem: str | None = None  # what was wrong with the file, for people
        try:
            self.rows = parse_stamped(list[Attempt], read_bytes(self.path))
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:  # a damaged history must not stop the run
            self._set_aside(str(error))
        for place, row in enumerate(self.rows):
            if row.status == RUNNING:
                self._set(place, status=KILLED)

    def sensors(self, number: int | None = None) -> Path:
        """Folder for the trace of one attempt, counted from 1; of the present one by default."""
        return self.folder / "sensors" / str(len(self.rows) if number is None else number)

    def begin(self, started_at: str, startup: Startup | None = None, *, node: str | None = None) -> None:
        """Add the present attempt.

        Args:
            started_at: ISO 8601.
            startup: what its process has spent so far; None without sensors.
            node: of a cluster; None for a run on the machine of its command.
        """
        row = Attempt(started_at=started_at, seconds=None, status=RUNNING, costs=None)
        # The file has keys for known values only.
        known = {key: value for key, value in (("startup", startup), ("node", node)) if value is not None}
        self.rows.append(row.model_copy(update=known))
        self._write()

    def end(self, seconds: float, status: str, costs: AttemptCosts | None) -> None:
        """Record the end of the present attempt: wall time, how it ended, and its account with the startup."""
        self._set(-1, seconds=seconds, status=status, costs=costs)
        self._write()

    def set_machine(self, fingerprint: str) -> None:
        """Record the machine of the present attempt."""
        self._set(-1, machine=fingerprint)
        self._write()  # at once: the attempt may be killed

    def machines(self) -> list[str]:
        """Fingerprints of the machines of all attempts, each once, in order."""
        return list(dict.fromkeys(row.machine for row in self.rows if row.machine))

    def recover(self, number: int, seconds: float | None, costs: AttemptCosts) -> None:
        """Set the costs of a killed attempt, as its trace shows them.

        Args:
            number: of the attempt, from 1.
            seconds: time of its last reading.
            costs: account of its trace; the attempt's `startup` moves into it.
        """
        startup = self.rows[number - 1].startup
        costs = costs if startup is None else costs.model_copy(update={"startup": startup})
        self._set(number - 1, seconds=seconds, costs=costs)

    def for_record(self) -> list[Attempt]:
        """The rows; of a single attempt without costs, which are those of the record."""
        return list(self.rows) if len(self.rows) > 1 else [row.without("costs") for row in self.rows]

    def _set(self, place: int, **changes: object) -> None:
        self.rows[place] = self.rows[place].model_copy(update=changes)
        if "costs" in changes:
            self.rows[place] = self.rows[place].without("startup")

    def _set_aside(self, reason: str) -> None:
        """Move the file and its traces away: attempts count from 1 again, and a new trace must not join an old one."""
        number = 1
        while (aside := self.folder / f"damaged-attempts-{number}").exists():
            number += 1
        with suppress(OSError):
            for path in (self.path, self.folder / "sensors"):
                if path.exists():
                    relocate(path, aside / path.name)
        self.problem = f"{self.path}: is damaged ({reason}); kept in {aside.name}, and a new history was started"

    def _write(self) -> None:
        with writing(self.path):
            write_atomic(self.path, json.dumps(with_digest([row.to_json() for row in self.rows])))
