"""The dtype of a training step: what `auto` means on a device, and a dtype that the device only emulates."""

from __future__ import annotations

from harness.system import hardware

AUTO = "auto"


def resolve(name: str, device: str) -> str:
    """Resolve `auto` to bfloat16 on a CPU that multiplies it, else to float32; other names are returned as they are.

    Args:
        name: `auto` or a dtype.
        device: `cpu`, `cuda` or `cuda:i`.
    """
    if name != AUTO:
        return name
    return "bfloat16" if device == "cpu" and hardware.multiplies_bfloat16() else "float32"


def warning(name: str, device: str) -> str | None:
    """What to tell the user before a step of this dtype runs on the device; None for nothing.

    Args:
        name: a dtype.
        device: `cpu`, `cuda` or `cuda:i`.
    """
    if name != "bfloat16" or device != "cpu" or hardware.multiplies_bfloat16():
        return None
    return (
        "dtype bfloat16 is emulated on this CPU, which has neither AVX512-BF16 nor AMX: products take 2 to 5 times as "
        "long as in float32; take dtype: auto"
    )
