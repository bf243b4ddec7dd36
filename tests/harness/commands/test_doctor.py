"""A broken part of an installation is one line of the report, and the other checks still run."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from harness.commands import doctor
from harness.monitoring import sensors
from harness.monitoring.sensors import ProbeResult, SensorStatus
from harness.system import hardware
from lm_kernels.fo_pool import triton as backend


def by_name() -> dict[str, doctor.Check]:
    return {check.name: check for check in doctor.examine([])}


@pytest.mark.parametrize("error", [ImportError("libtorch.so:\nno such file"), OSError("bad library")])
def test_a_broken_torch_is_reported(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    complete = by_name()
    real = builtins.__import__

    def without_torch(name: str, *arguments: Any, **options: Any) -> Any:
        if name.split(".")[0] == "torch":
            raise error
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    checks = by_name()
    assert list(checks) == list(complete)
    assert (checks["torch"].status, checks["cuda"].status) == ("error", "missing")
    assert {name for name in checks if checks[name].status != complete[name].status} <= {"torch", "cuda"}
    assert "\n" not in checks["torch"].detail
    assert str(checks["torch"].hint).startswith("pip install")


def test_each_sensor_is_available_or_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    probed = {
        "cpu": ProbeResult(SensorStatus("available", None, {"usable_cores": 2.0}, {"rss": "hidden"})),
        "nvml": ProbeResult(SensorStatus("unavailable", "no NVIDIA driver")),
        "rapl": ProbeResult(SensorStatus("available")),
    }
    monkeypatch.setattr(sensors, "probe", lambda uuid: probed)
    checks = [check for name, check in by_name().items() if name.startswith("sensor ")]
    assert [(check.name, check.status, check.detail, check.hint is None) for check in checks] == [
        ("sensor cpu", "ok", "usable cores 2.0, unknown rss (hidden)", True),
        ("sensor nvml", "missing", "no NVIDIA driver", False),
        ("sensor rapl", "ok", "answers", True),
    ]


def test_the_cpu_says_what_the_dtype_auto_is_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "bfloat16_products", lambda: "at half the rate of float32")
    products = "bfloat16 products at half the rate of float32: dtype auto is float32"
    assert by_name()["cpu"].detail.endswith(products)


@pytest.mark.parametrize(("name", "function"), [("memory", "memory_bytes"), ("cpu", "usable_cores")])
def test_a_check_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, name: str, function: str) -> None:
    def fail() -> int:
        raise RuntimeError("no such\ncounter")

    monkeypatch.setattr(hardware, function, fail)
    checks = doctor.examine([])
    [check] = [check for check in checks if check.status == "error"]
    assert (check.name, check.detail) == (name, "cannot be found out: no such counter")
    assert check.detail in doctor.render(checks)


@pytest.mark.parametrize(
    ("installed", "reason", "status", "detail"),
    [
        (True, None, "ok", "3.9.0, for backends named triton"),
        (True, "no CUDA device", "missing", "3.9.0, but its kernels cannot run: no CUDA device"),
        (False, None, "missing", "not installed"),
    ],
)
def test_triton_is_usable_or_says_why_not(
    monkeypatch: pytest.MonkeyPatch, installed: bool, reason: str | None, status: str, detail: str
) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: object() if installed else None)
    monkeypatch.setattr(doctor, "version", lambda name: "3.9.0")
    monkeypatch.setattr(backend, "unavailable", lambda device: reason)
    check = by_name()["triton"]
    assert (check.status, check.detail, check.hint is None) == (status, detail, status == "ok")
