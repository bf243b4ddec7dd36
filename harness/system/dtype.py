"""The dtype of a training step: what `auto` means on a device, and a dtype that is slow there."""

from __future__ import annotations

from harness.system import hardware

AUTO = "auto"

_WARNINGS: dict[hardware.Products, str] = {
    "emulated": (
        "dtype bfloat16 is emulated on this CPU, which has neither AVX512-BF16 nor AMX: products take 2 to 5 times as "
        "long as in float32; take dtype: auto"
    ),
    "at half the rate of float32": (
        "dtype bfloat16 has half the rate of float32 on this CPU, which has AVX512-BF16 but no AMX, or hides it: take "
        "dtype: auto"
    ),
}


def resolve(name: str, device: str) -> str:
    """Resolve `auto` to bfloat16 on a CPU known to multiply it faster than float32, else to float32, the default.

    Other names are returned as they are.

    Args:
        name: `auto` or a dtype.
        device: `cpu`, `cuda` or `cuda:i`.
    """
    if name != AUTO:
        return name
    return "bfloat16" if device == "cpu" and hardware.bfloat16_products() == "faster than float32" else "float32"


def warning(name: str, device: str) -> str | None:
    """What to tell the user before a step of this dtype runs on the device; None for nothing.

    Args:
        name: a dtype.
        device: `cpu`, `cuda` or `cuda:i`.
    """
    return _WARNINGS.get(hardware.bfloat16_products()) if (name, device) == ("bfloat16", "cpu") else None
