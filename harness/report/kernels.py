"""Timed kernels as a table: rows of `harness bench`, and those that runs timed at the shapes of their models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.report.columns import NOT_APPLICABLE
from harness.report.formats.github import escape, grid

if TYPE_CHECKING:
    from harness.results.record import RunRecord

Timed = Mapping[str, Any]

HEADINGS = ("Kernel", "Case", "Direction", "Backend", "ms", "ms warm", "GB/s", "Of copy", "Of triad", "GFLOP/s",
            "Of GEMM", "Over chain")  # fmt: skip
ALIGNS = ("left",) * 4 + ("right",) * 8


def machine_text(fingerprint: str) -> str:
    """The name of a machine, with `1 thread` for the `1 threads` that records hold."""
    return re.sub(r"\b1 (core|thread)s\b", r"1 \1", fingerprint)


def kernel_table(rows: Sequence[Timed]) -> str:
    """Markdown of timed kernels in the order given, and the reason of each failure.

    On a CUDA device a last column has times with the launch.
    """
    headings, aligns, body = list(HEADINGS), list(ALIGNS), [kernel_cells(row) for row in rows]
    if any(row.get("ms_with_launch") is not None for row in rows):
        headings.append("ms with launch")
        aligns.append("right")
        body = [[*cells, _milliseconds(row.get("ms_with_launch"))] for cells, row in zip(body, rows, strict=True)]
    failed = [row for row in rows if row["error"] is not None]
    problems = dict.fromkeys(f"{row['op']} {row['case']} {row['backend']}: {row['error']}" for row in failed)
    return grid(body, headings, aligns) + "".join(f"\n{escape(line)}\n" for line in problems)


def kernel_section(records: Iterable[RunRecord]) -> str | None:
    """The leaderboard's section of kernels, one table per device; None if no run timed any.

    If several runs timed the same kernel, the one that started last counts.
    """
    by_device: dict[str, dict[tuple[str, ...], Timed]] = {}
    for record in sorted(records, key=lambda each: (each.started_at, each.run_id)):
        # Times of different hardware are not comparable, so each device has its own table.
        device = str(record.machine.get("fingerprint") or record.spec.device)
        for row in record.timings:
            if "op" in row:
                by_device.setdefault(device, {})[_identity(row)] = row
    if not by_device:
        return None
    lines = ["## Kernels", "", "Timed by runs at their own models' shapes, each checked against its reference.", ""]
    for device, rows in sorted(by_device.items()):
        lines += [f"### {escape(machine_text(device))}", "", kernel_table([row for _, row in sorted(rows.items())])]
    return "\n".join(lines)


def _identity(row: Timed) -> tuple[str, ...]:
    # Forward before backward, as they run.
    order = "0" if row["direction"] == "forward" else "1"
    return (str(row["op"]), str(row["case"]), str(row.get("dtype")), order, str(row["backend"]))


def kernel_cells(row: Timed) -> list[str]:
    # float32 is the usual dtype; only others need to be named.
    dtype = "" if row["dtype"] == "float32" else f" {row['dtype']}"
    head = [row["op"], row["case"] + dtype, row["direction"], row["backend"]]
    if row["status"] != "ok":
        return [*head, row["status"], *[NOT_APPLICABLE] * 7]
    return [
        *head,
        _milliseconds(row["ms"]),
        _milliseconds(row["ms_warm"]),
        _number(row["gb_per_s"], ".1f"),
        _number(row["share_of_copy"], ".0%"),
        _number(row["share_of_triad"], ".0%"),
        _number(row["gflop_per_s"], ",.0f"),
        _number(row["share_of_gemm"], ".0%"),
        _number(row["speedup_over_chain"], ".2f"),
    ]


def _milliseconds(value: float | None) -> str:
    # Three decimals below 10 ms: GPU kernels take microseconds.
    return _number(value, ".1f" if value is not None and value >= 10 else ".3f")


def _number(value: float | None, form: str) -> str:
    return NOT_APPLICABLE if value is None else f"{value:{form}}"
