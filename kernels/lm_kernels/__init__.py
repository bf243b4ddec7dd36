"""Numerical kernels: ops with several backends, of which the reference is the specification.

fo_pool pools a QRNN layer, lstm runs an LSTM layer over a window, weight_drop applies DropConnect to a weight matrix.
`resolve` returns a backend that runs on a device. `lm_kernels.cases` lists the shapes and tolerances for tests and
benchmarks. Importing this package imports no torch.

To add a backend: write a module with the op's function and register it in KERNELS; tests and benchmarks then cover it.
An installed package adds one as the entry point `OP.NAME`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lm_kernels.entry_points import added, no_exit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

__all__ = ["KERNELS", "check_name", "resolve"]

# op -> backend -> "module:function", best first: "auto" takes the first that runs on the device.
# A backend's module may define `unavailable(device) -> str | None`, the reason it cannot run there, and
# `worth(*arguments) -> bool`, whether "auto" should take it for these arguments of the op.
KERNELS = {
    "fo_pool": {
        "triton": "lm_kernels.fo_pool.triton:fo_pool",
        "native": "lm_kernels.fo_pool.native:fo_pool",
        "unrolled": "lm_kernels.fo_pool.unrolled:fo_pool",
        "reference": "lm_kernels.fo_pool.reference:fo_pool",
    },
    "lstm": {
        "native": "lm_kernels.lstm.native:lstm",
        "padded": "lm_kernels.lstm.padded:lstm",
        "fused": "lm_kernels.lstm.fused:lstm",
        "reference": "lm_kernels.lstm.reference:lstm",
    },
    "weight_drop": {
        "triton": "lm_kernels.weight_drop.triton:weight_drop",
        "native": "lm_kernels.weight_drop.native:weight_drop",
        "reference": "lm_kernels.weight_drop.reference:weight_drop",
    },
}
for _name, _address in added("kernels").items():
    _op, _, _backend = _name.partition(".")
    # After ours: "auto" takes another package's backend only where none of these runs.
    KERNELS.get(_op, {}).setdefault(_backend, _address)


def check_name(op: str, backend: str) -> None:
    """Check that a backend exists.

    Args:
        op: a key of KERNELS.
        backend: "auto" or a backend of the op.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    if op not in KERNELS:
        raise ValueError(f"kernel op {op!r} is unknown; there are {', '.join(KERNELS)}")
    if backend not in ("auto", *KERNELS[op]):
        raise ValueError(f"{op} backend {backend!r} is unknown; there are auto, {', '.join(KERNELS[op])}")


def resolve(
    op: str, backend: str = "auto", device: torch.device | str = "cpu", arguments: Sequence[Any] | None = None
) -> tuple[str, Callable[..., Any]]:
    """Find a backend that runs on a device.

    Args:
        op: a key of KERNELS.
        backend: its name; "auto" takes the first of the table that can run.
        device: where it has to run.
        arguments: of the call to come. Without them "auto" skips backends that are for some arguments only.

    Returns:
        Name and function of the backend.

    Raises:
        ValueError: an unknown name, or the reason why the backend cannot be imported or run on the device.
    """
    check_name(op, backend)
    backends = KERNELS[op]
    reasons = []
    for name in backends if backend == "auto" else (backend,):
        module_name, _, function_name = backends[name].partition(":")
        try:
            with no_exit():
                module = import_module(module_name)
        except Exception as error:
            raise ValueError(f"{op} backend {name} cannot be imported: {type(error).__name__}: {error}") from error
        if backend == "auto" and hasattr(module, "worth") and (arguments is None or not module.worth(*arguments)):
            continue
        reason = module.unavailable(device) if hasattr(module, "unavailable") else None
        if reason is None:
            function: Callable[..., Any] = getattr(module, function_name)
            return name, function
        reasons.append(f"{name}: {reason}")
    raise ValueError(f"no {op} backend can run on {device} ({'; '.join(reasons)})")
