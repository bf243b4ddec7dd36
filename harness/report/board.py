"""From a results folder to what is printed and saved: joins store, published rows and report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness import report
from harness.core.errors import StoreError, SuiteError
from harness.report import curves
from harness.report.kernels import leaderboard_section
from harness.report.leaderboard import leaderboard
from harness.report.table import build
from harness.results import published
from harness.results.store import Store
from harness.suite import load, suite_files
from harness.system.files import write_atomic

if TYPE_CHECKING:
    from harness.core.specs import Suite
    from harness.report.measured import Records

FILE_NAME = "LEADERBOARD.md"


def table_text(store: Store, fmt: str, columns: Sequence[str] | None = None) -> str:
    """Every record of the store beside the published rows, under these columns or the usual ones.

    Raises StoreError where the folder holds none, HarnessError for a column there is not.
    """
    records = store.records()
    if not records and not store.problems:
        raise StoreError(f"{store.root}: holds no records; `harness run SUITE --results {store.root}` makes some")
    return _text(store, records, fmt, columns)


def suite_text(store: Store, suite: Suite, fmt: str = "github") -> str:
    """The records that stand under this suite and profile, whichever seeds and whenever they were made."""
    records = []
    for record, labels in store.records():
        here = [label for label in labels if (label.suite, label.profile) == (suite.name, suite.profile)]
        if here:
            records.append((record, here))
    return _text(store, records, fmt)


def save(store: Store) -> Path:
    """Write RESULTS/LEADERBOARD.md from every record. Raises StoreError where it cannot be written.

    Suites that come with the harness and cannot be loaded are left out, and named in the store's `problems`.
    """
    rows = published.load(published.find(store.root))
    command = f"harness table {store.root.name} --save"
    path = store.root / FILE_NAME
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        records = store.records()
        write_atomic(path, leaderboard(records, rows, suites=_installed(store), regenerate=command))
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def draw(store: Store, run_ids: Sequence[str], out: Path, along: str) -> int:
    """Write the learning curves of these runs, or of all, as a picture; returns how many there are in it.

    Raises StoreError for a run that the folder does not hold, and what `picture.draw` raises.
    """
    records = store.records()
    known = {record.run_id for record, _ in records}
    for run_id in run_ids:
        if run_id not in known:
            raise StoreError(
                f"{store.root}: holds no record of {run_id}; `harness table --columns model,run_ids` lists them"
            )
    chosen = [row for row in records if not run_ids or row[0].run_id in run_ids]
    found = curves.panels(chosen, published.load(published.find(store.root)), along)
    curves.draw(found, out, along)
    return len({line.run_id for lines in found.values() for line in lines})


def _text(store: Store, records: Records, fmt: str, columns: Sequence[str] | None = None) -> str:
    """The table; as Markdown, unless columns are chosen, also the kernels that were timed."""
    rows = published.load(published.find(store.root))
    text = report.write(build(records, rows, suites=_installed(store)), fmt, columns)
    timed = fmt == "github" and columns is None
    kernels = leaderboard_section(record for record, _ in records) if timed else None
    return f"{text}\n{kernels}" if kernels else text


def _installed(store: Store) -> list[Suite]:
    """Every installed suite under each of its profiles. One that cannot be used joins the store's problems."""
    found = []
    for path in suite_files():
        try:
            full = load(path)
            found += [full, *(load(path, profile=name) for name in full.profiles if name != full.profile)]
        except SuiteError as problem:
            store.problems.append(f"suite skipped: {problem}; its rows cannot be told from changed ones")
    return found
