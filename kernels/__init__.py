"""Numerical kernels: one lazy table of backends per op. Importing this package imports no torch.

fo_pool: QRNN pooling. lstm: one LSTM layer over a window. weight_drop: DropConnect of a weight matrix. `cases` lists
what every backend is tested and timed on.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

# op -> backend -> "module:function", best first: "auto" takes the first that runs on the device.
# A backend's module may define `unavailable(device) -> str | None`, the reason it cannot run there, and
# `worth(*arguments) -> bool`, whether "auto" is to take it for these arguments of the op.
KERNELS = {
    "fo_pool": {
        "triton": "kernels.fo_pool.triton:fo_pool",
        "native": "kernels.fo_pool.native:fo_pool",
        "unrolled": "kernels.fo_pool.unrolled:fo_pool",
        "reference": "kernels.fo_pool.reference:fo_pool",
    },
    "lstm": {
        "padded": "kernels.lstm.padded:lstm",
        "fused": "kernels.lstm.fused:lstm",
        "reference": "kernels.lstm.reference:lstm",
    },
    "weight_drop": {
        "triton": "kernels.weight_drop.triton:weight_drop",
        "native": "kernels.weight_drop.native:weight_drop",
        "reference": "kernels.weight_drop.reference:weight_drop",
    },
}


def check_name(op: str, backend: str) -> None:
    """Raise ValueError, with what there is to choose from, unless `backend` is "auto" or a backend of `op`."""
    if op not in KERNELS:
        raise ValueError(f"kernel op {op!r} is unknown; there are {', '.join(KERNELS)}")
    if backend not in ("auto", *KERNELS[op]):
        raise ValueError(f"{op} backend {backend!r} is unknown; there are auto, {', '.join(KERNELS[op])}")


def resolve(
    op: str, backend: str = "auto", device: torch.device | str = "cpu", arguments: Sequence[Any] | None = None
) -> tuple[str, Callable[..., Any]]:
    """Return the name and function of a backend that runs on `device`; "auto" picks the best one.

    arguments: those of the call to come. Without them "auto" passes over the backends that are only for some.
    Raises ValueError as `check_name` does, or with the reason if the backend cannot run there.
    """
    check_name(op, backend)
    backends = KERNELS[op]
    reasons = []
    for name in backends if backend == "auto" else (backend,):
        module_name, _, function_name = backends[name].partition(":")
        module = import_module(module_name)
        if backend == "auto" and hasattr(module, "worth") and (arguments is None or not module.worth(*arguments)):
            continue
        reason = module.unavailable(device) if hasattr(module, "unavailable") else None
        if reason is None:
            function: Callable[..., Any] = getattr(module, function_name)
            return name, function
        reasons.append(f"{name}: {reason}")
    raise ValueError(f"no {op} backend can run on {device} ({'; '.join(reasons)})")
