"""From a results folder to what is printed and saved: joins store, published rows and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness import catalogue, published, report
from harness.atomic import write_atomic
from harness.errors import StoreError
from harness.report.leaderboard import leaderboard
from harness.report.table import build
from harness.store import Store

if TYPE_CHECKING:
    from harness.types import Suite

FILE_NAME = "LEADERBOARD.md"


def table_text(store: Store, fmt: str) -> str:
    """Every record of the store beside the published rows. Raises StoreError where the folder holds none."""
    records = store.records()
    if not records and not store.problems:
        raise StoreError(f"{store.root}: holds no records; `harness run SUITE --results {store.root}` makes some")
    return report.write(build(records, published.load(published.find(store.root))), fmt)


def suite_text(store: Store, suite: Suite, fmt: str = "github") -> str:
    """The records that stand under this suite and profile, whichever seeds and whenever they were made."""
    records = []
    for record, labels in store.records():
        here = [label for label in labels if (label.suite, label.profile) == (suite.name, suite.profile)]
        if here:
            records.append((record, here))
    return report.write(build(records, published.load(published.find(store.root))), fmt)


def save(store: Store) -> Path:
    """Write RESULTS/LEADERBOARD.md from every record. Raises StoreError where it cannot be written.

    Suites that come with the harness and cannot be loaded are left out, and named in the store's `problems`.
    """
    suites, problems = catalogue.readable_suites()
    rows = published.load(published.find(store.root))
    command = f"harness table {store.root.name} --save"
    path = store.root / FILE_NAME
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        write_atomic(path, leaderboard(store.records(), rows, suites=suites, regenerate=command))
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from error
    store.problems += problems
    return path
