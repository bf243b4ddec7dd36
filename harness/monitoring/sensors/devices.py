"""A GPU found through NVML by its UUID, and NVML's errors in words. NVML's order of devices need not be CUDA's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pynvml

from harness.monitoring.sensors.base import SensorUnavailable

AUTO = "auto"

FATAL = {
    pynvml.NVML_ERROR_UNINITIALIZED: "the driver's library was shut down",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded",
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver: libnvidia-ml.so.1 is not installed",
    pynvml.NVML_ERROR_GPU_IS_LOST: "the GPU is lost: it fell off the bus",
    pynvml.NVML_ERROR_RESET_REQUIRED: "the GPU has to be reset",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the driver and its library differ in version; restart the machine",
}
"""After one of these no call will succeed."""

PERMANENT = {
    pynvml.NVML_ERROR_NOT_SUPPORTED: "not supported by this GPU",
    pynvml.NVML_ERROR_NO_PERMISSION: "no permission",
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "not in this driver's library",
    pynvml.NVML_ERROR_INVALID_ARGUMENT: "refused by the driver as an invalid argument",
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: "not in this version by the driver's library",
}
"""After one of these the same call need not be made again."""

MIG = "a MIG slice: the driver gives power, clocks and utilisation of whole boards only"


def why(error: Exception) -> str:
    """NVML's error in words; its own where we have none better."""
    code = getattr(error, "value", None)
    if isinstance(error, pynvml.NVMLLibraryMismatchError):
        code = pynvml.NVML_ERROR_FUNCTION_NOT_FOUND
    known = FATAL.get(code) or PERMANENT.get(code)
    return known or f"the driver answered: {error} (NVML error {code})"


def is_fatal(error: Exception) -> bool:
    return getattr(error, "value", None) in FATAL


def is_permanent(error: Exception) -> bool:
    return isinstance(error, pynvml.NVMLLibraryMismatchError) or getattr(error, "value", None) in PERMANENT


def find(uuid: str) -> Any:
    """Initialise NVML and return the handle of the GPU; `shut_down` gives NVML back.

    `uuid` is that of NVML (`GPU-...`), the same without its prefix, as torch gives it, or "auto" for the only one.
    Raises SensorUnavailable, for a MIG slice too.
    """
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise SensorUnavailable(why(error)) from None
    try:
        handle = _only() if uuid == AUTO else _named(uuid)
        _refuse_mig(handle)
    except pynvml.NVMLError as error:
        shut_down()
        raise SensorUnavailable(why(error)) from None
    except SensorUnavailable:
        shut_down()
        raise
    return handle


def shut_down() -> None:
    """Give NVML back; nothing to be done where that fails."""
    try:
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return


def describe(handle: Any) -> dict[str, Any]:
    """Name, UUID and power limit of the board, the driver's version, how many GPUs it lists. None is not known."""
    return {
        "name": _ask(pynvml.nvmlDeviceGetName, handle),
        "uuid": _ask(pynvml.nvmlDeviceGetUUID, handle),
        "driver": _ask(pynvml.nvmlSystemGetDriverVersion),
        "num_gpus": _ask(pynvml.nvmlDeviceGetCount),
        "power_limit_w": _scaled(_ask(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle), 1e-3),
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
        try:
            return pynvml.nvmlDeviceGetHandleByUUID(name)
        except (pynvml.NVMLError_NotFound, pynvml.NVMLError_InvalidArgument):
            continue
    raise SensorUnavailable(f"the driver lists no GPU with UUID {names[0]}")


def _refuse_mig(handle: Any) -> None:
    """A slice has none of the board's readings, and the board's are not the slice's."""
    if _ask(pynvml.nvmlDeviceIsMigDeviceHandle, handle):
        raise SensorUnavailable(MIG)
    mode = _ask(pynvml.nvmlDeviceGetMigMode, handle)
    if mode is not None and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE:
        raise SensorUnavailable(f"MIG is on, and the run uses {MIG}")


def _ask(call: Callable[..., Any], *arguments: Any) -> Any:
    """An answer that one can do without; None where there is none. A lost GPU is told by the readings."""
    try:
        return call(*arguments)
    except pynvml.NVMLError:
        return None


def _scaled(value: int | None, factor: float) -> float | None:
    return None if value is None else value * factor
