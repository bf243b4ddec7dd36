"""A broken part of an installation is one line of the report, and the rest of the report still stands."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from harness.commands import doctor
from harness.monitoring import sensors
from harness.monitoring.sensors import ProbeResult, SensorStatus
from harness.system import hardware


def statuses(checks: list[doctor.Check]) -> dict[str, str]:
    return {check.name: check.status for check in checks}


@pytest.mark.parametrize("error", [ImportError("libtorch.so:\nno such file"), OSError("bad library")])
def test_a_broken_torch_is_said_and_the_rest_is_still_looked_at(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    whole = doctor.examine([])
    real = builtins.__import__

    def without_torch(name: str, *arguments: Any, **options: Any) -> Any:
        if name.split(".")[0] == "torch":
            raise error
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    checks = doctor.examine([])
    assert [check.name for check in checks] == [check.name for check in whole]
    found = statuses(checks)
    assert (found["torch"], found["cuda"]) == ("error", "missing")
    broken = {name for name, status in statuses(whole).items() if found[name] != status}
    assert broken <= {"torch", "cuda"}
    torch = next(check for check in checks if check.name == "torch")
    assert "\n" not in torch.detail
    assert str(torch.hint).startswith("pip install")


def test_each_sensor_is_available_or_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "cpu": ProbeResult(SensorStatus("available", None, {"usable_cores": 2.0}, {"rss": "hidden"})),
        "nvml": ProbeResult(SensorStatus("unavailable", "no NVIDIA driver")),
        "rapl": ProbeResult(SensorStatus("available")),
    }
    monkeypatch.setattr(sensors, "probe", lambda uuid: found)
    checks = {check.name: check for check in doctor.examine([]) if check.name.startswith("sensor ")}
    assert [(check.status, check.detail) for check in checks.values()] == [
        ("ok", "usable cores 2.0, unknown rss (hidden)"),
        ("missing", "no NVIDIA driver"),
        ("ok", "answers"),
    ]
    assert all(check.hint for check in checks.values() if check.status == "missing")
    assert list(checks) == ["sensor cpu", "sensor nvml", "sensor rapl"]


@pytest.mark.parametrize(("name", "function"), [("memory", "memory_bytes"), ("cpu", "usable_cores")])
def test_a_question_that_fails_is_answered_with_why(monkeypatch: pytest.MonkeyPatch, name: str, function: str) -> None:
    def fail() -> int:
        raise RuntimeError("no such\ncounter")

    monkeypatch.setattr(hardware, function, fail)
    checks = doctor.examine([])
    [check] = [check for check in checks if check.status == "error"]
    assert (check.name, check.detail) == (name, "cannot be found out: RuntimeError: no such counter")
    assert check.detail in doctor.render(checks)


def triton_line() -> doctor.Check:
    [check] = [check for check in doctor.examine([]) if check.name == "triton"]
    return check


def test_triton_is_said_to_be_usable_or_why_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from kernels.fo_pool import triton as backend

    monkeypatch.setattr(doctor, "find_spec", lambda name: object())
    monkeypatch.setattr(doctor, "version", lambda name: "3.9.0")
    monkeypatch.setattr(backend, "unavailable", lambda device: None)
    assert (triton_line().status, triton_line().detail) == ("ok", "3.9.0, for backends named triton")
    monkeypatch.setattr(backend, "unavailable", lambda device: "torch 2.13.0+cpu sees no CUDA device")
    assert triton_line().status == "missing"
    assert triton_line().detail == "3.9.0, but its kernels cannot run: torch 2.13.0+cpu sees no CUDA device"
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert (triton_line().status, triton_line().detail) == ("missing", "not installed")
    assert str(triton_line().hint).startswith("pip install triton")
