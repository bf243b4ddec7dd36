"""Timed kernels as a table: rows of `harness bench`, and those a run measured at its own shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.report.columns import NOT_APPLICABLE
from harness.report.formats.github import grid
from harness.results.record import RunRecord

Timed = Mapping[str, Any]

KERNEL_HEADINGS = ("Kernel", "Case", "Direction", "Backend", "ms", "ms warm", "GB/s", "Of copy", "Of triad",
                   "GFLOP/s", "Of GEMM", "Over chain")  # fmt: skip
KERNEL_ALIGNS = ("left",) * 4 + ("right",) * 8


def kernel_table(rows: Sequence[Timed]) -> str:
    """Markdown of timed kernels in the order given; what failed says why in place of its times.

    Where any was timed with its launch too, as on a CUDA device, a last column says so.
    """
    body = [_kernel_cells(row) for row in rows]
    headings, aligns = list(KERNEL_HEADINGS), list(KERNEL_ALIGNS)
    if any(row.get("ms_with_launch") is not None for row in rows):
        headings.append("ms with launch")
        aligns.append("right")
        body = [[*cells, _milliseconds(row.get("ms_with_launch"))] for cells, row in zip(body, rows, strict=True)]
    return grid(body, headings, aligns) + _reasons(rows)


def leaderboard_section(records: Iterable[RunRecord]) -> str | None:
    """Kernels that runs timed at their models' own shapes, one table per device; None where none were.

    Where several runs timed the same thing on one device, the one started last is shown.
    """
    by_device: dict[str, dict[tuple[str, ...], Timed]] = {}
    for record in sorted(records, key=lambda each: (each.started_at, each.run_id)):
        device = str(record.machine.get("fingerprint") or record.spec.device)
        for row in record.timings:
            if "op" in row:
                by_device.setdefault(device, {})[_identity(row)] = row
    if not by_device:
        return None
    lines = ["## Kernels", "", "Timed by runs at their own models' shapes, each checked against its reference.", ""]
    for device in sorted(by_device):
        rows = [by_device[device][key] for key in sorted(by_device[device])]
        lines += [f"### {device}", "", kernel_table(rows)]
    return "\n".join(lines)


def _identity(row: Timed) -> tuple[str, ...]:
    # forward before backward
    order = "0" if row["direction"] == "forward" else "1"
    return (str(row["op"]), str(row["case"]), str(row.get("dtype")), order, str(row["backend"]))


def _kernel_cells(row: Timed) -> list[str]:
    dtype = "" if row["dtype"] == "float32" else f" {row['dtype']}"
    head = [row["op"], row["case"] + dtype, row["direction"], row["backend"]]
    if row["status"] != "ok":
        return [*head, row["status"], *[NOT_APPLICABLE] * 7]
    return [
        *head,
        _milliseconds(row["ms"]),
        _milliseconds(row["ms_warm"]),
        _number(row["gb_per_s"], ".1f"),
        _percent(row["share_of_copy"]),
        _percent(row["share_of_triad"]),
        _number(row["gflop_per_s"], ",.0f"),
        _percent(row["share_of_gemm"]),
        _number(row["speedup_over_chain"], ".2f"),
    ]


def _reasons(rows: Sequence[Timed]) -> str:
    """One line per thing that went wrong, each said once."""
    said: dict[str, None] = {}
    for row in rows:
        if row["error"] is not None:
            where = [row[key] for key in ("op", "case", "backend")]
            said[f"{' '.join(where)}: {row['error']}"] = None
    return "".join(f"\n{line}\n" for line in said)


def _milliseconds(value: float | None) -> str:
    return _number(value, ".1f" if value is not None and value >= 10 else ".3f")


def _number(value: float | None, form: str) -> str:
    return NOT_APPLICABLE if value is None else f"{value:{form}}"


def _percent(value: float | None) -> str:
    return NOT_APPLICABLE if value is None else f"{value:.0%}"
