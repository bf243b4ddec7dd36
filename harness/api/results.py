"""Read a results folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from harness.results.record import RunRecord


def records(results: Path | str = "results") -> list[RunRecord]:
    """The readable records of a results folder, sorted by run id.

    Args:
        results: folder of the records.

    Returns:
        Typed records: `scores`, `curve`, `costs`, `environment` and the rest of record.json.

    Raises:
        StoreError: the folder has no record, or one of them cannot be read.
    """
    from harness.core.errors import StoreError
    from harness.results.store import Store

    store = Store(Path(results))
    found = [record for record, _ in store.records()]
    if store.problems:
        raise StoreError("; ".join(store.problems))
    if not found:
        raise StoreError(f"{results}: has no records; `harness run SUITE --results {results}` makes some")
    return found


def leaderboard(results: Path | str = "results") -> pd.DataFrame:
    """The leaderboard of a results folder: one row per setting, published row and limit; columns as in JSON.

    `to_csv`, `to_parquet`, `to_html` and `to_markdown` of pandas write it.

    Args:
        results: folder of the records.

    Raises:
        StoreError: the folder has no records, or is a file.
    """
    from harness.report import read_leaderboard

    board = read_leaderboard(Path(results))
    board.check_not_empty()
    return board.table().frame()
