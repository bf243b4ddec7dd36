"""What makes a training step faster without changing what it computes. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

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


def applied(speed: Speed, device: str) -> Speed:
    """The switches that take effect on a device, `cpu` or `cuda:0`."""
    return speed if device.startswith("cuda") else replace(speed, **dict.fromkeys(CUDA_ONLY, False))


def changed(speed: Speed, device: str) -> dict[str, bool]:
    """The switches that take effect and are not the default. They name a run, so a new switch renames no old run."""
    return dict.fromkeys(names(speed, device), True)


def names(speed: Speed, device: str) -> tuple[str, ...]:
    """Names of the switches that are on and take effect on a device."""
    return tuple(name for name, is_on in asdict(applied(speed, device)).items() if is_on)


def unverified(speed: Speed, kernels: Mapping[str, str], dtype: str, device: str) -> list[str]:
    """What was in use and no device has proven: switches, backends, dtype. kernels: what a model trained with."""
    if not device.startswith("cuda"):
        return []
    used = {dtype, *(name for names in kernels.values() for name in names.split(", "))}
    return [name for name in UNVERIFIED if getattr(speed, name)] + [name for name in UNVERIFIED_ON_CUDA if name in used]
