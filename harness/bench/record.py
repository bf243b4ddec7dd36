"""Benchmark records: the rows of one invocation with machine, code version and settings, under RESULTS/bench."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import writing
from harness.system import source
from harness.system.files import refuse_links, write_atomic
from harness.system.hardware import Hardware

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from harness.bench.loops.entries import LoopEntry
    from harness.bench.steps.entries import StepEntry
    from harness.timing.clocks import Budget

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class KernelSettings:
    """Settings of a kernel benchmark; budget: how long each op is measured."""

    names: Sequence[str]
    quick: bool
    dtype: str
    freed_memory_kept: bool
    budget: Mapping[str, Budget]


@dataclass(frozen=True, slots=True)
class StepSettings:
    """Settings of `harness bench training`."""

    entries: Sequence[StepEntry]
    quick: bool
    budget: Budget


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """Settings of `harness bench loop`; backends: op -> backend used in place of `auto`."""

    entries: Sequence[LoopEntry]
    seconds: float
    ablate: bool
    backends: Mapping[str, str]


def write(
    results: Path,
    kind: str,
    machine: Hardware,
    rows: Sequence[DataclassInstance],
    settings: DataclassInstance,
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
        "how": asdict(settings),
        "rows": [asdict(row) for row in rows],
    }
    folder = results / "bench"
    with writing(folder):
        refuse_links(folder, results)
        path = _unused_path(folder, f"{_slug(machine.fingerprint)}-{now:%Y%m%dT%H%M%SZ}")
        write_atomic(path, to_text(body))
    return path


def write_rows(path: Path, rows: Sequence[DataclassInstance]) -> None:
    """Write only the rows, as a JSON list. Raises StoreError if the file cannot be written."""
    with writing(path):
        write_atomic(path, to_text([asdict(row) for row in rows]))


def to_text(value: Any) -> str:
    """Indented JSON with each list of numbers on one line."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    return re.sub(r'\[\n([^\[\]{}"]*)\n\s*\]', lambda match: "[" + " ".join(match[1].split()) + "]", text) + "\n"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]


def _unused_path(folder: Path, stem: str) -> Path:
    """Two records of one second get different names."""
    path, number = folder / f"{stem}.json", 2
    while path.exists():
        path, number = folder / f"{stem}-{number}.json", number + 1
    return path
