"""Which way to train is fast and still trains rightly: what probes tell, and the order to try ways in."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REFERENCE = "float32"
LOSS_TOLERANCE = 0.01
"""Share by which the mean loss of a probe's first steps may stand apart from float32's: masks and rounding differ."""

OTHER_MODEL_TOLERANCE = 0.1
"""The same against another model over the same text, which learns its symbols' frequencies as fast."""

Way = dict[str, Any]


def read(rows: Path) -> dict[str, float | None]:
    """Tokens per second and early loss of a probe; None where it left none."""
    try:
        [row] = json.loads(rows.read_text(encoding="utf-8"))
        return {name: _number(row.get(name)) for name in ("tokens_per_s", "nll_per_token")}
    except (OSError, ValueError, TypeError, AttributeError):
        return {"tokens_per_s": None, "nll_per_token": None}


def variants(rows: Path) -> dict[str, Any]:
    """`ok`: how many rows of a benchmark are there. `failed`: entry, variant and error of each that is not."""
    try:
        told = json.loads(rows.read_text(encoding="utf-8"))
        failed = [row for row in told if row["status"] != "ok"]
        names = ("entry", "variant", "error")
        return {"ok": len(told) - len(failed), "failed": [{name: row.get(name) for name in names} for row in failed]}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {"ok": 0, "failed": []}


def in_order(tried: Sequence[Way], barred: Mapping[str, str]) -> list[Way]:
    """The ways that work, the fastest first; each of `tried` gets `rejected`: None, or why it is none of them.

    A way whose loss stands apart from float32's, or is not told where float32's is, trains wrongly however fast.
    barred: switches that are not to be turned on, and why.
    """
    loss = next((way["nll_per_token"] for way in tried if way["name"] == REFERENCE), None)
    for way in tried:
        way["rejected"] = _rejected(way, loss, barred)
    return sorted((way for way in tried if way["rejected"] is None), key=lambda way: -way["tokens_per_s"])


def apart(nll: float | None, reference: float | None, tolerance: float) -> bool:
    """Whether a loss is too far from the reference; nothing is where there is no reference."""
    return reference is not None and (nll is None or not abs(nll / reference - 1) <= tolerance)


def _rejected(way: Mapping[str, Any], loss: float | None, barred: Mapping[str, str]) -> str | None:
    for name in way["speed"]:
        if name in barred:
            return f"{name}: {barred[name]}"
    if way["tokens_per_s"] is None:
        return "failed"
    if apart(way["nll_per_token"], loss, LOSS_TOLERANCE):
        return f"a loss of {way['nll_per_token']} beside {loss} in {REFERENCE}"
    return None


def _number(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
