"""A run on a GPU measured through a scripted driver that hangs, and the probe of the sensors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from waiting import readings, wait_for

from harness.monitoring.costs.watch import Watch
from harness.monitoring.sampler import trace
from harness.monitoring.sensors import QUANTITIES, SENSORS

GPU, OTHER = "GPU-0b1c2d3e-0000-1111-2222-333344445555", "GPU-f0e0d0c0-9999-8888-7777-666655554444"
CURVES = {"power": 200, "gpu": 97, "sm": 60, "occupancy": 25, "tensor": 10, "dram": 45}
READINGS = f"gpu {GPU}\n" + "".join(f"curve {name} 0:{value}\n" for name, value in CURVES.items())
Environment = Callable[..., dict[str, str]]


def test_a_run_on_one_of_two_gpus_has_every_column_and_a_call_that_hangs_costs_only_its_own_readings(
    driver_environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's time is the test's, so that it hangs only once the sampler has read what it should read before."""
    clock, script = tmp_path / "clock", tmp_path / "script"
    script.write_text(f"clock {clock}\ngpu {OTHER}\ncurve power 0:50\n{READINGS}process {os.getpid()} 1000\n"
                      "process 999999 5000\nhang nvmlDeviceGetUtilizationRates 1.2\n")  # fmt: skip
    times = (number / 20 for number in range(40, 100_000))

    def advance(time_s: float) -> None:
        partial = clock.with_suffix(".partial")  # a sampler never reads half a number
        partial.write_text(repr(time_s))
        partial.replace(clock)

    def advance_until(condition: Callable[[], Any]) -> None:
        wait_for(lambda: advance(next(times)) or condition(), every_s=0.05)

    advance(0.0)
    for name, value in driver_environment().items():
        monkeypatch.setenv(name, value)
    watch = Watch(tmp_path / "run", pid=os.getpid(), gpu_uuid=GPU, interval_s=0.1)
    watch.start()
    wait_for(lambda: readings(tmp_path / "run", "", "gpu_power_w"))
    with watch.phase("train"):
        began = time.monotonic()
        wait_for(lambda: readings(tmp_path / "run", "train", "gpu_memory_bytes"))
        seen_s = time.monotonic() - began
        # The driver's time has to pass between two of GPM's samples.
        advance_until(lambda: len(readings(tmp_path / "run", "train", "sm_percent")) >= 2)
        advance_until(lambda: trace.read_status(tmp_path / "run" / trace.NAME)["nvml"].status == "lost")
        # No reading speaks for more than a second after it: well over a twentieth of the phase is unseen.
        wait_for(lambda: time.monotonic() - began > 1.2 * seen_s + 3)
    monkeypatch.setattr(trace, "GAP_S", 600.0)  # a sampler that was held up leaves gaps, which are tested elsewhere
    costs = watch.stop()
    assert (costs.sampler.status, costs.sensors["gpm"].status) == ("ok", "available")
    assert (costs.sensors["nvml"].status, costs.sensors["nvml"].details["uuid"]) == ("lost", GPU)
    assert costs.sensors["nvml"].reason.startswith("driver call did not return in ")
    assert set(costs.unknown) <= {"package_energy_j"}
    train = costs.phases["train"]
    assert set(train.quantities) == {name for name, quantity in QUANTITIES.items() if quantity.nature != "counter"}
    expected = {"gpu_percent": 97, "gpu_memory_bytes": 1000, "other_gpu_processes": 1, "gpu_power_w": 200,
                "sm_percent": 60, "sm_occupancy_percent": 25, "tensor_percent": 10, "dram_percent": 45}  # fmt: skip
    assert {name: train.quantities[name].mean for name in expected} == pytest.approx(expected)
    assert set(train.quantities["throttle_reasons"].shares) == {"software power cap", "software thermal slowdown"}
    assert train.quantities["cpu_percent"].coverage == pytest.approx(1.0)
    assert train.quantities["gpu_power_w"].coverage < 0.95
    assert (
        2 <= train.quantities["sm_percent"].num_samples <= 1.1 * train.seconds + 2
    )  # once a second, in its own thread
    assert train.energy["gpu"].joules is None
    assert "readings cover" in train.energy["gpu"].reason


PROBE = """
import json, os, sys
from dataclasses import asdict
from harness.monitoring.sensors import panel, probe
panel.HANG_S = panel.OPEN_S = float(sys.argv[1])
print(json.dumps({name: asdict(result) for name, result in probe(sys.argv[2] or None).items()}), flush=True)
os._exit(0)
"""


def test_the_probe_lists_each_sensor_or_why_not(driver_environment: Environment, tmp_path: Path) -> None:
    def probe(script: str, open_s: float = 100.0, uuid: str = "") -> Any:
        (tmp_path / "script").write_text(script)
        command = [sys.executable, "-c", PROBE, str(open_s), uuid]
        return json.loads(subprocess.check_output(command, timeout=120, env=driver_environment()))

    results = probe(f"{READINGS}fail nvmlDeviceGetPowerUsage 4\n")
    assert list(results) == list(SENSORS)
    assert [results[name]["status"]["status"] for name in ("nvml", "gpm", "cpu")] == ["available"] * 3
    nvml = results["nvml"]
    assert (nvml["status"]["reason"], nvml["status"]["unknown"]) == (None, {"gpu_power_w": "no permission"})
    assert "gpu_energy_j" in nvml["quantities"]
    assert len(results["gpm"]["quantities"]) == 4
    two = f"gpu {GPU}\ngpu {OTHER}\n"
    reason = f"the driver lists 2 GPUs and none was named: 0: {GPU} (Stub GPU), 1: {OTHER} (Stub GPU)"
    assert probe(two)["nvml"]["status"]["reason"] == reason
    assert probe(two, uuid=OTHER)["nvml"]["status"]["details"]["uuid"] == OTHER
    hanging = probe(f"hang nvmlInitWithFlags\ngpu {GPU}\n", open_s=0.3)
    assert hanging["cpu"]["status"]["status"] == "available"
    assert hanging["nvml"]["status"]["reason"].startswith("driver call did not return in ")
