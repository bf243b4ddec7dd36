"""Benchmark records: the rows of one invocation with machine, code version and settings, under RESULTS/bench."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import writing
from harness.results.record_file import json_text
from harness.system import source
from harness.system.files import refuse_links, write_atomic
from harness.system.hardware import Hardware

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SCHEMA = 1


def write(
    results: Path, kind: str, machine: Hardware, rows: Sequence[DataclassInstance], settings: Mapping[str, object]
) -> Path:
    """Write one record atomically.

    Args:
        results: the results folder; the record goes to its subfolder `bench`.
        kind: `kernels`, `training` or `loop`.
        machine: hardware; its fingerprint names the file.
        rows: measured rows.
        settings: what was requested; saved under `how`.

    Returns:
        Path of the new file.

    Raises:
        StoreError: the folder cannot be written.
    """
    now = datetime.now(UTC)
    body = {
        "schema": SCHEMA,
        "kind": kind,
        "written_at": now.isoformat(timespec="seconds"),
        "code": source.installed().to_json(),
        "machine": machine.to_json(),
        "how": settings,
        "rows": [asdict(row) for row in rows],
    }
    folder = results / "bench"
    name = re.sub(r"[^a-z0-9]+", "-", machine.fingerprint.lower()).strip("-")[:60]
    # With microseconds: two records of one second get different names.
    path = folder / f"{name}-{now:%Y%m%dT%H%M%S.%fZ}.json"
    with writing(folder):
        refuse_links(folder, results)
        write_atomic(path, json_text(body))
    return path


def write_rows(path: Path, rows: Sequence[DataclassInstance]) -> None:
    """Write only the rows, as a JSON list. Raises StoreError if the file cannot be written."""
    with writing(path):
        write_atomic(path, json_text([asdict(row) for row in rows]))
