"""Timed kernels of benchmarks and runs, against the ceilings that were measured with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.json_values import parse_value, read_json
from harness.core.messages import printable_value, reason, short
from harness.results.record import TimedRow
from harness.system.reading import read_bytes

if TYPE_CHECKING:
    from harness.results.record import RunRecord

BENCH = "bench"


@dataclass(frozen=True, slots=True)
class Timing:
    """One kernel that was timed.

    Attributes:
        device: fingerprint of the machine.
        op, backend, case, direction, dtype: what was timed.
        at: when, ISO 8601.
        ms: median milliseconds.
        samples_ms: the raw samples.
        gb_per_s, gflop_per_s: rates reached; None where bytes or operations are not counted.
        intensity: operations per byte.
        copy_gb_per_s, triad_gb_per_s, gemm_gflop_per_s: ceilings measured in the same rounds; of a row that has only
            the share of one, the rate over the share.
        over_chain: how many times as fast as the chain of torch operations.
        over_reference: how many times as fast as the reference.
    """

    device: str
    op: str
    backend: str
    case: str
    direction: str
    dtype: str
    at: str
    ms: float
    samples_ms: tuple[float, ...]
    gb_per_s: float | None
    gflop_per_s: float | None
    intensity: float | None
    copy_gb_per_s: float | None
    triad_gb_per_s: float | None
    gemm_gflop_per_s: float | None
    over_chain: float | None
    over_reference: float | None

    @property
    def what(self) -> tuple[str, ...]:
        """What two timings share that may be compared over time."""
        return (self.device, self.op, self.case, self.direction, self.dtype, self.backend)

    @property
    def roof_gflop_per_s(self) -> float | None:
        """The most operations per second that the ceilings of its own rounds allow; None if they are unknown."""
        by_bytes = self.intensity * self.triad_gb_per_s if self.intensity and self.triad_gb_per_s else None
        return min((each for each in (by_bytes, self.gemm_gflop_per_s) if each is not None), default=None)

    @property
    def is_bound_by_compute(self) -> bool:
        """Whether the product of matrices and not the bandwidth limits it."""
        if self.intensity is None or self.triad_gb_per_s is None or self.gemm_gflop_per_s is None:
            return False
        return self.gemm_gflop_per_s <= self.intensity * self.triad_gb_per_s


def timings(records: Iterable[RunRecord], results: Path) -> tuple[list[Timing], list[str]]:
    """The timed kernels of runs and of RESULTS/bench, oldest first, and a line for each file that cannot be read.

    Args:
        records: of runs.
        results: the results folder.
    """
    found, problems = [], []
    for record in records:
        device = str(record.machine.get("fingerprint") or record.spec.device)
        found += [each for row in record.timings if (each := _timing(row, device, record.started_at)) is not None]
    for path in sorted((results / BENCH).glob("*.json")):
        try:
            body = printable_value(read_json(read_bytes(path)))
            if body["kind"] == "kernels":
                device, at = str(body["machine"]["fingerprint"]), str(body["written_at"])
                found += [each for row in body["rows"] if (each := _timing(row, device, at)) is not None]
        except OSError as error:
            problems.append(f"{path}: cannot be read: {reason(error)}")
        except (ValueError, TypeError, KeyError) as error:
            problems.append(f"{path}: is no record of a benchmark: {reason(error)}")
    return sorted(found, key=lambda each: (each.at, each.what)), problems


def newest(found: Sequence[Timing]) -> list[Timing]:
    """The last timing of each kernel, ordered by device, op, case and direction, the fastest backend first."""
    last = {each.what: each for each in found}
    return sorted(last.values(), key=lambda each: (*each.what[:3], each.direction != "forward", each.dtype, each.ms))


def _timing(row: Mapping[str, Any], device: str, at: str) -> Timing | None:
    if row.get("status") != "ok" or "op" not in row:
        return None
    parse_value(TimedRow, row)
    ms, flops, num_bytes = _positive(row.get("ms")), _positive(row.get("flops")), _positive(row.get("bytes_moved"))
    if ms is None:
        return None
    ratio = _positive(row.get("ratio_to_reference"))
    samples = row.get("samples_ms")
    gb_per_s, gflop_per_s = _positive(row.get("gb_per_s")), _positive(row.get("gflop_per_s"))
    return Timing(
        device=device,
        op=short(row["op"]),
        backend=short(row["backend"]),
        case=short(row["case"]),
        direction=short(row["direction"]),
        dtype=short(row["dtype"]),
        at=at,
        ms=ms,
        samples_ms=tuple(x for each in samples if (x := _positive(each)) is not None)
        if isinstance(samples, list)
        else (),
        gb_per_s=gb_per_s,
        gflop_per_s=gflop_per_s,
        intensity=flops / num_bytes if flops and num_bytes else None,
        copy_gb_per_s=_ceiling(row, "copy_gb_per_s", gb_per_s),
        triad_gb_per_s=_ceiling(row, "triad_gb_per_s", gb_per_s),
        gemm_gflop_per_s=_ceiling(row, "gemm_gflop_per_s", gflop_per_s),
        over_chain=_positive(row.get("speedup_over_chain")),
        over_reference=None if ratio is None else 1 / ratio,
    )


def _ceiling(row: Mapping[str, Any], name: str, rate: float | None) -> float | None:
    """A ceiling of a row's own rounds. Runs record the share of it that was reached, and benchmarks both."""
    share = _positive(row.get(f"share_of_{name.partition('_')[0]}"))
    return rate / share if rate is not None and share is not None else _positive(row.get(name))


def _positive(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and value > 0 else None
