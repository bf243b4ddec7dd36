"""A run on a GPU measured through a scripted driver, which may fail.

Samplers and driver are processes of their own. The driver's time is the test's, so that it fails only once every
sampler has read what it should read before, however slow the machine is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from waiting import readings, wait_for

from harness.monitoring.costs.watch import Watch
from harness.monitoring.sampler import trace
from harness.monitoring.sensors import QUANTITIES, SENSORS
from harness.results.costs import AttemptCosts

GPU, OTHER = "GPU-0b1c2d3e-0000-1111-2222-333344445555", "GPU-f0e0d0c0-9999-8888-7777-666655554444"
READINGS = """curve power 0:200
curve gpu 0:97
curve memory 0:35
curve sm 0:60
curve occupancy 0:25
curve tensor 0:10
curve dram 0:45
"""


HANGS_FROM_S, LOST_FROM_S = 1.2, 2.0
HEALTHY_GPM = ("two", "call hangs")
LOST_CALLS = ("nvmlDeviceGetPowerUsage", "nvmlDeviceGetTotalEnergyConsumption", "nvmlGpmSampleGet")
SCRIPTS = {
    "two": (
        f"gpu {OTHER}\ncurve power 0:50\nprocess 999999 700\n"
        f"gpu {GPU}\n{READINGS}process {os.getpid()} 1000\nprocess 999999 5000\n"
    ),
    "call hangs": f"gpu {GPU}\n{READINGS}hang nvmlDeviceGetUtilizationRates {HANGS_FROM_S}\n",
    "lost": f"gpu {GPU}\n{READINGS}" + "".join(f"fail {call} 15 {LOST_FROM_S}\n" for call in LOST_CALLS),
}
WATTS = 200.0
Environment = Callable[..., dict[str, str]]
Records = Mapping[str, AttemptCosts]


class DriverTime:
    """The clock of scripts that begin with `clock PATH`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set(0.0)

    def set(self, now_s: float) -> None:
        self.now_s = now_s
        partial = self.path.with_suffix(".partial")
        partial.write_text(repr(now_s))
        partial.replace(self.path)

    def pass_until(self, condition: Callable[[], Any]) -> None:
        """Let it pass until the condition holds."""

        def tick() -> Any:
            self.set(self.now_s + 0.05)
            return condition()

        wait_for(tick, every_s=0.05)


@pytest.fixture(scope="module")
def records(compile_driver: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Records:
    """Costs of this process under each script, measured by as many samplers at the same time."""
    watches, folders = {}, {}
    clock = DriverTime(tmp_path_factory.mktemp("clock") / "now")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_LIBRARY_PATH", str(compile_driver()))
        for name, text in SCRIPTS.items():
            folders[name] = folder = tmp_path_factory.mktemp("run")
            (folder / "script").write_text(f"clock {clock.path}\n{text}")
            patch.setenv("NVML_STUB_SCRIPT", str(folder / "script"))
            watches[name] = Watch(folder, pid=os.getpid(), gpu_uuid=GPU, interval_s=0.1)
            watches[name].start()

    def all_read(phase: str) -> bool:
        return all(readings(folder, phase, "gpu_power_w") for folder in folders.values())

    def all_fail() -> bool:
        expected = {"two": ("available", "available"), "call hangs": ("lost", "available"), "lost": ("lost", "lost")}
        written = {name: trace.read_status(folder / trace.NAME) for name, folder in folders.items()}
        return all(
            (written[name]["nvml"].status, written[name]["gpm"].status) == pair for name, pair in expected.items()
        )

    def energy_is_read(phase: str) -> bool:
        values = readings(folders["two"], phase, "gpu_energy_j")
        return bool(values) and values[-1] - 5e6 >= WATTS * clock.now_s - 0.01

    wait_for(lambda: all_read(""))
    with ExitStack() as phases:
        began = time.monotonic()
        for watch in watches.values():
            phases.enter_context(watch.phase("train"))
        wait_for(lambda: all_read("train"))
        clock.set(LOST_FROM_S)
        seen_s = time.monotonic() - began
        # The driver's time has to pass between two of GPM's samples.
        clock.pass_until(lambda: all(len(readings(folders[name], "train", "sm_percent")) >= 2 for name in HEALTHY_GPM))
        clock.pass_until(all_fail)
        # No reading speaks for more than a second after it: well over a twentieth of the phase is unseen.
        wait_for(lambda: time.monotonic() - began > 1.2 * seen_s + 3)
        wait_for(lambda: energy_is_read("train"))
    wait_for(lambda: energy_is_read(""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "GAP_S", 600.0)  # a sampler that was held up leaves gaps, which are tested elsewhere
        costs = {name: watch.stop() for name, watch in watches.items()}
    two = costs["two"].model_copy(update={"driver_s": clock.now_s})
    return {**costs, "two": two}


def test_a_run_on_one_of_two_gpus_has_every_column(records: Records) -> None:
    costs = records["two"]
    assert costs.sampler.status == "ok"
    assert set(costs.unknown) <= {"package_energy_j"}
    train = costs.phases["train"]
    assert set(train.quantities) == {name for name, quantity in QUANTITIES.items() if quantity.nature != "counter"}
    means = {name: row.mean for name, row in train.quantities.items() if QUANTITIES[name].sensor != "cpu"}
    assert means == {
        "gpu_percent": 97.0,
        "gpu_memory_controller_percent": 35.0,
        "gpu_memory_bytes": 1000.0,
        "board_memory_bytes": 3.0 * 2**30,
        "sm_clock_mhz": 1755.0,
        "memory_clock_mhz": 2619.0,
        "temperature_c": 62.0,
        "gpu_power_w": pytest.approx(WATTS),
        "throttle_reasons": None,
        "other_gpu_processes": 1.0,
        "sm_percent": pytest.approx(60.0),
        "sm_occupancy_percent": pytest.approx(25.0),
        "tensor_percent": pytest.approx(10.0),
        "dram_percent": pytest.approx(45.0),
    }
    shares = train.quantities["throttle_reasons"].shares
    assert set(shares or {}) == {"software power cap", "software thermal slowdown"}
    assert train.energy["gpu"].source == "counter"
    # All of it is spent between two readings of the phase, so no edge is interpolated.
    driver_s = (costs.model_extra or {})["driver_s"]
    assert train.energy["gpu"].joules == pytest.approx(WATTS * driver_s, rel=1e-6)
    assert 2 <= train.quantities["sm_percent"].num_samples <= 1.1 * train.seconds + 2  # once a second
    assert costs.sensors["nvml"].details["uuid"] == GPU


def test_a_driver_call_that_hangs_costs_only_its_own_readings(records: Records) -> None:
    costs = records["call hangs"]
    assert (costs.sampler.status, costs.sensors["nvml"].status) == ("ok", "lost")
    assert str(costs.sensors["nvml"].reason).startswith("driver call did not return in ")
    train = costs.phases["train"]
    assert train.quantities["cpu_percent"].coverage == pytest.approx(1.0)
    assert train.quantities["gpu_power_w"].coverage < 0.95
    assert train.quantities["sm_percent"].num_samples >= 2  # its own thread, its own calls
    assert train.energy["gpu"].joules is None
    assert "readings cover" in str(train.energy["gpu"].reason)


def test_a_gpu_that_falls_off_the_bus_keeps_its_readings_until_then(records: Records) -> None:
    costs = records["lost"]
    assert costs.sampler.status == "ok"
    for name in ("nvml", "gpm"):
        sensor = costs.sensors[name]
        assert (sensor.status, sensor.reason) == ("lost", "the GPU is lost: it fell off the bus")
    train = costs.phases["train"]
    assert train.quantities["gpu_power_w"].mean == pytest.approx(WATTS)
    assert train.quantities["gpu_power_w"].coverage < 0.95
    assert train.energy["gpu"].joules is None
    assert train.quantities["rss_bytes"].coverage == pytest.approx(1.0)


def test_the_probe_lists_each_sensor_or_why_not(driver_environment: Environment, tmp_path: Path) -> None:
    """Also with a driver that hangs."""
    code = """
import json, os, sys
from dataclasses import asdict
from harness.monitoring.sensors import panel, probe, survey
panel.HANG_S = survey.OPEN_S = float(sys.argv[1])
print(json.dumps({name: asdict(result) for name, result in probe(sys.argv[2] or None).items()}), flush=True)
os._exit(0)
"""

    def probe(script: str, open_s: float = 100.0, uuid: str = "") -> Any:
        (tmp_path / "script").write_text(script)
        command = [sys.executable, "-c", code, str(open_s), uuid]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=driver_environment())
        return json.loads(done.stdout)

    results = probe(f"gpu {GPU}\n{READINGS}fail nvmlDeviceGetPowerUsage 4\n")
    assert list(results) == list(SENSORS)
    assert [results[name]["status"]["status"] for name in ("nvml", "gpm", "cpu")] == ["available"] * 3
    nvml = results["nvml"]
    assert (nvml["status"]["reason"], nvml["status"]["unknown"]) == (None, {"gpu_power_w": "no permission"})
    assert "gpu_energy_j" in nvml["quantities"]
    assert len(results["gpm"]["quantities"]) == 4
    two = f"gpu {GPU}\ngpu {OTHER}\n"
    assert probe(two)["nvml"]["status"]["reason"] == "the driver lists 2 GPUs and none was named by its UUID"
    assert probe(two, uuid=OTHER)["nvml"]["status"]["details"]["uuid"] == OTHER
    hanging = probe(f"hang nvmlInitWithFlags\ngpu {GPU}\n", open_s=0.3)
    assert hanging["cpu"]["status"]["status"] == "available"
    assert hanging["nvml"]["status"]["reason"].startswith("driver call did not return in ")
