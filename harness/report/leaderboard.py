"""The leaderboard of a results folder: everything that it shows is read once, then shown in any form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import StoreError, writing
from harness.report.columns import SECTION_COLUMNS, usual
from harness.report.formats import write
from harness.report.formats.github import escape, section
from harness.report.kernels import kernel_section
from harness.report.paper import paper_section
from harness.report.table import Table, audit_notes, build
from harness.report.texts import comparability
from harness.results import published
from harness.results.store import Store
from harness.system.files import write_atomic

if TYPE_CHECKING:
    from harness.core.specs import Label, Suite
    from harness.results.published import PublishedRow
    from harness.results.record import RunRecord

FILE_NAME = "LEADERBOARD.md"


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """Records of a results folder, each with its labels, and what they are compared with.

    Attributes:
        root: the results folder.
        records: each with its labels, by run id.
        published: published rows.
        suites: the installed suites, each once per profile.
        problems: a line for each record or suite that could not be read.
        num_unreadable: records among them.
        metric: the only metric to show, of every record that it fits; None for those of the suites.
    """

    root: Path
    records: Sequence[tuple[RunRecord, Sequence[Label]]]
    published: Sequence[PublishedRow]
    suites: Sequence[Suite] = ()
    problems: tuple[str, ...] = ()
    num_unreadable: int = 0
    metric: str | None = None

    def of_suite(self, suite: Suite) -> Leaderboard:
        """The records that have a label of this suite and profile, whichever seeds, and only those labels."""
        records = []
        for record, labels in self.records:
            matching = [label for label in labels if (label.suite, label.profile) == (suite.name, suite.profile)]
            if matching:
                records.append((record, matching))
        return replace(self, records=records)

    def check_not_empty(self) -> None:
        """StoreError if the folder has no record, readable or not."""
        if not self.records and not self.num_unreadable:
            raise StoreError(f"{self.root}: holds no records; `harness run SUITE --results {self.root}` makes some")

    def table(self) -> Table:
        """Our rows with the published rows of their datasets."""
        return build(self.records, self.published, suites=self.suites, metric=self.metric)

    def text(self, fmt: str, columns: Sequence[str] | None = None) -> str:
        """The table in one of `FORMATS`.

        Args:
            fmt: name of the format.
            columns: headings or JSON keys; None for the usual ones, with the timed kernels in Markdown.

        Raises:
            HarnessError: unknown column.
        """
        text = write(self.table(), fmt, columns)
        # Only Markdown has sections: other formats hold one table.
        if fmt != "github" or columns is not None:
            return text
        return "\n".join([text, *self._kernels()])

    def markdown(self) -> str:
        """LEADERBOARD.md: the paper's rows, then every ranking. The same records give the same text."""
        table = build(self.records, self.published, every_published=True, suites=self.suites)
        # The folder's name and not its path: the file is committed and read on other machines.
        command = f"harness table {self.root.name} --save"
        lines = [
            "# Leaderboard",
            "",
            f"Generated from the records in this folder; do not edit. `{command}` updates it.",
            "",
            "## The paper's rows",
            "",
            "Merity, Keskar and Socher 2018, arXiv:1803.08240: its values as published, and ours.",
            "",
            paper_section(table, self.published, self.suites),
        ]
        for rows in table.groups():
            lines += [f"## {escape(table.heading(rows))}", "", section(rows, usual(rows, SECTION_COLUMNS))]
            note = comparability(rows)
            lines += [] if note is None else [escape(note), ""]
        for heading, note in audit_notes(table.rows):
            lines += [f"{heading}: {escape(note)}", ""]
        return "\n".join([*lines, *self._kernels()])

    def save(self) -> Path:
        """Write RESULTS/LEADERBOARD.md and return its path. StoreError if it cannot be written."""
        path = self.root / FILE_NAME
        with writing(path):
            write_atomic(path, self.markdown())
        return path

    def _kernels(self) -> list[str]:
        section = kernel_section(record for record, _ in self.records)
        return [section] if section else []


def read_leaderboard(results: Path | Store, metric: str | None = None) -> Leaderboard:
    """Read a results folder, the published rows and the installed suites, each file once.

    Args:
        results: the folder.
        metric: as in `Leaderboard`.

    Records and suites that cannot be read are named in `problems`. StoreError if `results` is a file.
    """
    # Formats and cells are used without suites, whose import takes half a second.
    from harness.suite import readable_suites

    store = results if isinstance(results, Store) else Store(results)
    records = store.records()
    suites, problems = readable_suites()
    return Leaderboard(
        root=store.root,
        records=records,
        published=published.load(published.find(store.root)),
        suites=suites,
        problems=(*store.problems, *store.remarks, *problems),
        num_unreadable=store.num_left_out,
        metric=metric,
    )
