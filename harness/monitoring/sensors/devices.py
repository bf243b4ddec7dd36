"""NVML: find a GPU by UUID, and turn error codes into reasons. NVML's order of devices need not be CUDA's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pynvml

from harness.monitoring.sensors.base import Detail, SensorUnavailable

# After one of these, no call to the driver will succeed.
FATAL = {
    pynvml.NVML_ERROR_UNINITIALIZED: "the driver's library was shut down",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded",
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver: libnvidia-ml.so.1 is not installed",
    pynvml.NVML_ERROR_GPU_IS_LOST: "the GPU is lost: it fell off the bus",
    pynvml.NVML_ERROR_RESET_REQUIRED: "the GPU has to be reset",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the driver and its library differ in version; restart the machine",
}

# After one of these, the same call would fail again and is not repeated.
PERMANENT = {
    pynvml.NVML_ERROR_NOT_SUPPORTED: "not supported by this GPU",
    pynvml.NVML_ERROR_NO_PERMISSION: "no permission",
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "not in this driver's library",
    pynvml.NVML_ERROR_INVALID_ARGUMENT: "refused by the driver as an invalid argument",
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: "not in this version by the driver's library",
}

MIG = "a MIG slice: the driver gives power, clocks and utilisation of whole boards only"


def reason_of(error: Exception) -> str:
    """An NVML error in words; the driver's own where we have none."""
    if isinstance(error, SensorUnavailable):
        return str(error)
    code = code_of(error)
    known = FATAL.get(code) or PERMANENT.get(code)
    return known or f"the driver answered: {error} (NVML error {code})"


def code_of(error: Exception) -> Any:
    """NVML's code of an error, to look up in FATAL or PERMANENT."""
    if isinstance(error, pynvml.NVMLLibraryMismatchError):  # raised by nvidia-ml-py itself, and carries no code
        return pynvml.NVML_ERROR_FUNCTION_NOT_FOUND
    return getattr(error, "value", None)


def find(uuid: str) -> Any:
    """Initialise NVML and return the handle of a GPU; `shut_down` releases NVML.

    `uuid` is NVML's (`GPU-...`), the same without its prefix, as torch gives it, or "auto" for the only GPU. Raises
    SensorUnavailable, also for a MIG slice.
    """
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise SensorUnavailable(reason_of(error)) from None
    try:
        handle = _only() if uuid == "auto" else _named(uuid)
        _refuse_mig(handle)
    except (pynvml.NVMLError, SensorUnavailable) as error:
        shut_down()
        raise SensorUnavailable(reason_of(error)) from None
    return handle


def shut_down() -> None:
    """Release NVML. A failure is ignored: the process is about to end."""
    _optional(pynvml.nvmlShutdown)


def describe(handle: Any) -> dict[str, Detail]:
    """Name, UUID and power limit of the board, the driver's version, the number of GPUs; None if unknown."""
    limit_mw = _optional(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle)
    return {
        "name": _optional(pynvml.nvmlDeviceGetName, handle),
        "uuid": _optional(pynvml.nvmlDeviceGetUUID, handle),
        "driver": _optional(pynvml.nvmlSystemGetDriverVersion),
        "num_gpus": _optional(pynvml.nvmlDeviceGetCount),
        "power_limit_w": None if limit_mw is None else limit_mw * 1e-3,
    }


def _only() -> Any:
    count = pynvml.nvmlDeviceGetCount()
    if count == 0:
        raise SensorUnavailable("the driver lists no GPU")
    if count > 1:
        raise SensorUnavailable(f"the driver lists {count} GPUs and none was named by its UUID")
    return pynvml.nvmlDeviceGetHandleByIndex(0)


def _named(uuid: str) -> Any:
    prefix, _, rest = uuid.strip().lower().partition("-")
    names = [f"{prefix.upper()}-{rest}"] if prefix in ("gpu", "mig") else [f"GPU-{uuid.lower()}", f"MIG-{uuid.lower()}"]
    for name in names:
        with suppress(pynvml.NVMLError_NotFound, pynvml.NVMLError_InvalidArgument):
            return pynvml.nvmlDeviceGetHandleByUUID(name)
    raise SensorUnavailable(f"the driver lists no GPU with UUID {names[0]}")


def _refuse_mig(handle: Any) -> None:
    """A slice has none of the board's readings, and the board's readings include every other slice."""
    if _optional(pynvml.nvmlDeviceIsMigDeviceHandle, handle):
        raise SensorUnavailable(MIG)
    mode = _optional(pynvml.nvmlDeviceGetMigMode, handle)
    if mode is not None and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE:
        raise SensorUnavailable(f"MIG is on, and the run uses {MIG}")


def _optional(call: Callable[..., Any], *arguments: Any) -> Any:
    """The answer of a call, None if it fails. A lost GPU is reported by the next reading."""
    with suppress(pynvml.NVMLError):
        return call(*arguments)
    return None
