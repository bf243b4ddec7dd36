"""What makes a training step faster without changing what it computes. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from models.config import LATER

UNVERIFIED = ("resident", "graph")
"""Switches whose code only a CUDA device runs and none has run yet: off unless asked for, and a record says so."""

UNVERIFIED_ON_CUDA = ("padded", "triton", "float16")
"""Backends, and the dtype with a loss scale, that no CUDA device has run yet. `auto` takes triton there all the same:
the other way to pool is a loop over time in Python."""

CUDA_ONLY = ("resident", "graph")


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Switches of the training step, each a way to compute the same update. A CPU takes no notice of CUDA's.

    resident: the training ids lie on the CUDA device, and a window is cut there; the same bits. On a CPU the
    memory-mapped file is as near. folded_clip: the factor that clips the gradients is handed to the fused optimiser
    instead of being multiplied into them, which saves a pass over them; equal up to rounding. graph: the whole step is
    captured as a CUDA graph for each window length, from the second time the length comes up.
    """

    __pydantic_config__ = {"extra": "forbid"}

    resident: bool = field(default=False, metadata=LATER)
    folded_clip: bool = field(default=False, metadata=LATER)
    graph: bool = field(default=False, metadata=LATER)


def applied(speed: Mapping[str, Any], device: str) -> Speed:
    """The switches as they take effect on a device: `cpu` or `cuda:0`."""
    chosen = Speed(**{each.name: bool(speed[each.name]) for each in fields(Speed) if each.name in speed})
    return chosen if device.startswith("cuda") else replace(chosen, **dict.fromkeys(CUDA_ONLY, False))


def changed(speed: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The switches that take effect and not by default: what a run is named by, so that a new switch renames none."""
    own, usual = (asdict(applied(values, device)) for values in (speed, {}))
    return {name: value for name, value in own.items() if value != usual[name]}


def names(speed: Mapping[str, Any], device: str) -> tuple[str, ...]:
    """What is changed, as a table says it."""
    return tuple(name if value is True else f"{name} {value}" for name, value in changed(speed, device).items())


def unverified(speed: Speed, kernels: Mapping[str, str], dtype: str, device: str) -> list[str]:
    """What was in use and no device has proven: switches, backends, dtype. kernels: what a model trained with."""
    if not device.startswith("cuda"):
        return []
    used = {dtype, *(name for names in kernels.values() for name in names.split(", "))}
    return [name for name in UNVERIFIED if getattr(speed, name)] + [name for name in UNVERIFIED_ON_CUDA if name in used]
