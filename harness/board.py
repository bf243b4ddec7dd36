"""From a results folder to what is printed and saved: joins store, published rows and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness import catalogue, published, report
from harness.atomic import write_atomic
from harness.errors import StoreError
from harness.report.kernels import leaderboard_section
from harness.report.leaderboard import leaderboard
from harness.report.table import build
from harness.store import Store
from harness.suite import load

if TYPE_CHECKING:
    from harness.report.measured import Records
    from harness.types import Suite

FILE_NAME = "LEADERBOARD.md"


def table_text(store: Store, fmt: str) -> str:
    """Every record of the store beside the published rows. Raises StoreError where the folder holds none."""
    records = store.records()
    if not records and not store.problems:
        raise StoreError(f"{store.root}: holds no records; `harness run SUITE --results {store.root}` makes some")
    return _text(records, store, fmt)


def suite_text(store: Store, suite: Suite, fmt: str = "github") -> str:
    """The records that stand under this suite and profile, whichever seeds and whenever they were made."""
    records = []
    for record, labels in store.records():
        here = [label for label in labels if (label.suite, label.profile) == (suite.name, suite.profile)]
        if here:
            records.append((record, here))
    return _text(records, store, fmt)


def _text(records: Records, store: Store, fmt: str) -> str:
    """The table; as Markdown also the kernels that were timed."""
    text = report.write(build(records, published.load(published.find(store.root))), fmt)
    kernels = leaderboard_section(record for record, _ in records) if fmt == "github" else None
    return f"{text}\n{kernels}" if kernels else text


def save(store: Store) -> Path:
    """Write RESULTS/LEADERBOARD.md from every record. Raises StoreError where it cannot be written."""
    suites = [load(path) for path in catalogue.suite_files()]
    rows = published.load(published.find(store.root))
    command = f"harness table {store.root.name} --save"
    path = store.root / FILE_NAME
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        write_atomic(path, leaderboard(store.records(), rows, suites=suites, regenerate=command))
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path
