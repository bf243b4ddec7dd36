"""The `speed` block of a suite: switches that make a training step faster and compute the same update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from lm_models.config import LATER

# Only a CUDA device runs these, and none has yet: they are off by default, and a record that used them says so.
UNVERIFIED = ("resident", "graph")

# Backends and a dtype that no CUDA device has run yet. `auto` still takes triton there: the alternative for pooling is
# a loop over time in Python.
UNVERIFIED_ON_CUDA = ("padded", "triton", "float16")

CUDA_ONLY = ("resident", "graph")


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Switches of the training step. A CPU ignores the ones that need CUDA.

    Attributes:
        resident: hold the training ids on the CUDA device and cut windows there; same bits.
        folded_clip: pass the clipping factor to the fused optimiser instead of scaling the gradients, which saves a
            pass over them; equal up to rounding.
        graph: capture the step as a CUDA graph per window length, from the second time a length occurs.
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
    """Name everything a CUDA run used that no CUDA device has verified.

    Args:
        speed: the switches in effect.
        kernels: operation -> backends the model trained with, comma separated.
        dtype: of the training step.
        device: `cpu` or `cuda:0`.

    Returns:
        Names of switches, backends and dtype; empty on a CPU.
    """
    if not device.startswith("cuda"):
        return []
    used = {dtype, *(name for names in kernels.values() for name in names.split(", "))}
    return [name for name in UNVERIFIED if getattr(speed, name)] + [name for name in UNVERIFIED_ON_CUDA if name in used]
