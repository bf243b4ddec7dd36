"""NVML and GPM through the real nvidia-ml-py and a scripted driver: correct numbers, or None with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.monitoring.costs.account import attempt_costs
from harness.monitoring.sampler import SamplerResult, trace
from harness.monitoring.sensors import SensorStatus
from harness.monitoring.sensors.nvml import may_be_foreign_ids
from harness.monitoring.sensors.registry import quantities_of
from harness.results.costs import PhaseCosts

Play = Callable[..., list[dict[str, Any]]]

ONE, OTHER = "GPU-0b1c2d3e-0000-1111-2222-333344445555", "GPU-f0e0d0c0-9999-8888-7777-666655554444"
POWER = [(0, 100.0), (7.3, 100.0), (9.1, 420.0), (21.7, 380.0), (22.4, 80.0), (40, 90.0)]
CURVE = "curve power " + " ".join(f"{t}:{v}" for t, v in POWER)
FULL = f"gpu {ONE}\n{CURVE}\ncurve gpu 0:93\nprocess SELF 2147483648\n"
GPM = FULL + "curve sm 0:0 10:80 20:20\ncurve occupancy 0:31.5\ncurve tensor 0:0 5:50\ncurve dram 0:12.25 40:12.25\n"
TIMES = [0.5 * step for step in range(80)]
SPANS = {"train": [(3.21, 17.87), (20.03, 23.9)], "evaluate": [(17.87, 20.03), (23.9, 33.333)], "short": [(9.0, 12.0)]}


def exact_joules(spans: list[tuple[float, float]]) -> float:
    """The curve's integral on a grid far finer than any sampling."""
    total = 0.0
    for start, end in spans:
        grid = np.union1d(np.linspace(start, end, 20_001), [t for t, _ in POWER if start < t < end])
        watts = np.interp(grid, *zip(*POWER, strict=True))
        total += float(np.sum(np.diff(grid) * (watts[1:] + watts[:-1]) / 2))
    return total


def phases_of(
    answer: dict[str, Any], times: list[float], spans: dict[str, list[tuple[float, float]]], folder: Path
) -> Mapping[str, PhaseCosts]:
    """The phases of an account of these readings."""
    path = folder / trace.NAME
    writer = trace.TraceWriter(path)
    rows = {name: answer[name].get("rows", []) for name in ("nvml", "gpm")}
    unknown = {key: why for sensor_rows in rows.values() for row in sensor_rows for key, why in row["reasons"].items()}
    reasons = {name: answer[name].get("unavailable") or answer[name].get("lost") for name in rows}
    trace.write_status(path, {name: SensorStatus("-", reason, {}, unknown) for name, reason in reasons.items()})
    for place, time_s in enumerate(times):
        read = [sensor_rows[place]["values"] for sensor_rows in rows.values() if place < len(sensor_rows)]
        row = {key: value for values in read for key, value in values.items() if value is not None}
        writer.add(time_s, "", row, 0.0)
    writer.close()
    return attempt_costs(path, SamplerResult("ok"), spans, 0.5).phases


def test_every_quantity_is_read_in_its_unit(play: Play) -> None:
    (answer,) = play(FULL)
    (row,) = answer["nvml"]["rows"]
    assert row == {"reasons": {}, "values": {
        "gpu_percent": 93.0,
        "gpu_memory_bytes": 2.0 * 2**30,
        "sm_clock_mhz": 1755.0,
        "memory_clock_mhz": 2619.0,
        "temperature_c": 62.0,
        "gpu_power_w": 100.0,
        "gpu_energy_j": 5e6 + 100.0,
        "throttle_reasons": float(0x24),
        "other_gpu_processes": 0.0,
    }}  # fmt: skip
    assert set(row["values"]) == set(quantities_of("nvml"))
    details = {"name": "Stub GPU", "uuid": ONE, "driver": "999.99", "num_gpus": 1, "power_limit_w": 700.0}
    assert answer["nvml"]["details"] == details


def test_energy_is_that_of_the_curve_by_the_counter_and_by_power(play: Play, tmp_path: Path) -> None:
    no_counter, resets = "fail nvmlDeviceGetTotalEnergyConsumption 3\n", "reset 10.2\nreset 14.9\n"
    scripts = (FULL, FULL + no_counter, FULL + resets, FULL + resets + "fail nvmlDeviceGetPowerUsage 3\n")
    counter, power, reset, bare = (phases_of(each, TIMES, SPANS, tmp_path) for each in play(*scripts, times=TIMES))
    for name in ("train", "evaluate"):
        exact = pytest.approx(exact_joules(SPANS[name]), rel=1e-3)
        refused = "no counter: not supported by this GPU"
        for phases, source, reason in ((counter, "counter", None), (power, "integrated power", refused)):
            energy = phases[name].energy["gpu"]
            assert (energy.joules, energy.source, energy.reason) == (exact, source, reason)
            assert phases[name].quantities["gpu_power_w"].mean * phases[name].seconds == exact
    energy = reset["train"].energy["gpu"]
    assert (energy.joules, energy.source) == (pytest.approx(exact_joules(SPANS["train"]), rel=1e-3), "counter")
    assert energy.reason == "the counter was reset at 10.5 s, 15.0 s; 1.00 s by integrated power"
    assert reset["evaluate"].energy["gpu"].reason is None
    energy = bare["short"].energy["gpu"]
    assert energy.joules is None
    assert "no power was read to bridge it" in energy.reason
    assert "readings cover 2.5 s of 3.0 s" in energy.reason


def test_a_board_is_found_by_uuid_in_any_order_and_spelling_and_by_index(play: Play) -> None:
    here, there = f"gpu {OTHER}\ncurve power 0:50\n", f"gpu {ONE}\ncurve power 0:300\n"
    spellings = (ONE, ONE.removeprefix("GPU-"), ONE.removeprefix("GPU-").upper(), ONE.lower())
    for answer in play(
        *({"script": text, "uuid": uuid} for text in (here + there, there + here) for uuid in spellings)
    ):
        assert answer["nvml"]["details"]["uuid"] == ONE
        assert answer["nvml"]["rows"][0]["values"]["gpu_power_w"] == 300.0
    found = play(*({"script": here + there, "uuid": index} for index in ("0", "1")))
    assert [answer["nvml"]["details"]["uuid"] for answer in found] == [OTHER, ONE]


LISTED = f"0: {ONE} (Stub GPU), 1: {OTHER} (Stub GPU)"
SLICE = "MIG-5a5a5a5a-0000-0000-0000-000000000000"
NO_SLICE = "a MIG slice: the driver gives power, clocks and utilisation of whole boards only"
FATAL = {1: "shut down", 9: "not loaded", 15: "fell off the bus", 16: "has to be reset", 18: "differ in version"}
SINGLE = {2: "invalid argument", 3: "not supported by this GPU", 4: "no permission", 13: "not in this driver's library"}
NUMBERED = {code: f"(NVML error {code})" for code in (6, 8, 10, 11, 14, 17, 19, 20, 21, 23, 999)}
OLD = {25: "not in this version by the driver's library"}


def test_a_board_that_cannot_be_opened_is_a_reason(play: Play) -> None:
    two = f"gpu {ONE}\ngpu {OTHER}\n"
    cases = [
        ("", "auto", "the driver lists no GPU"),
        (two, "auto", f"the driver lists 2 GPUs and none was named: {LISTED}"),
        (two, "GPU-1", f"the driver lists no GPU with UUID GPU-1; it lists {LISTED}"),
        (two, "2", f"the driver lists no GPU 2; it lists {LISTED}"),
        (f"gpu {SLICE}\nmig\n", SLICE, NO_SLICE),
        (f"gpu {SLICE}\nmig\n", SLICE.removeprefix("MIG-"), NO_SLICE),
        (f"gpu {ONE}\nmig_mode\n", ONE, f"MIG is on, and the run uses {NO_SLICE}"),
        ("hang nvmlInitWithFlags\n", None, "the run uses no GPU"),  # the driver is left alone
    ]
    codes = {**FATAL, **SINGLE, **NUMBERED, **OLD, 12: "no NVIDIA driver"}
    cases += [(f"fail nvmlInitWithFlags {code}\n{FULL}", ONE, reason) for code, reason in codes.items()]
    alone, *answers = play(*({"script": script, "uuid": uuid} for script, uuid, _ in [(FULL, "auto", ""), *cases]))
    assert alone["nvml"]["details"]["uuid"] == ONE
    for (_, _, reason), answer in zip(cases, answers, strict=True):
        for name in ("nvml", "gpm"):
            assert reason in answer[name]["unavailable"]


def test_each_error_of_a_reading_is_a_null_with_its_reason_and_a_fatal_one_ends_the_sensor(play: Play) -> None:
    single = {**SINGLE, **NUMBERED, **OLD}
    faults = "fail nvmlDeviceGetPowerUsage {0} 5\nfail nvmlDeviceGetComputeRunningProcesses_v3 {0} 5\n"
    answers = play(*(FULL + faults.format(code) for code in [*single, *FATAL]), times=[4.0, 5.0, 6.0])
    for reason, answer in zip([*single.values(), *FATAL.values()], answers, strict=True):
        before, *rows = answer["nvml"]["rows"]
        assert before["reasons"] == {}
        assert (reason in answer["nvml"].get("lost", "")) == (rows == []) == (reason in FATAL.values())
        for row in rows:
            failed = {"gpu_power_w", "gpu_memory_bytes", "other_gpu_processes"}
            assert {name for name, value in row["values"].items() if value is None} == failed == set(row["reasons"])
            assert reason in row["reasons"]["gpu_power_w"]
            assert row["values"]["gpu_energy_j"] >= 5e6


def test_each_quantity_fails_for_itself_whatever_is_raised(play: Play) -> None:
    """A function that raises stays broken in that process, so each job breaks one more: all but the last in the end."""
    names = ("PowerUsage", "TotalEnergyConsumption", "ClockInfo", "ComputeRunningProcesses")
    functions = [f"nvmlDeviceGet{name}" for name in names]
    jobs = ({"script": FULL, "broken": functions[:number]} for number in range(1, len(functions) + 1))
    lost = [{"gpu_power_w"}, {"gpu_energy_j"}, {"sm_clock_mhz", "memory_clock_mhz"},
            {"gpu_memory_bytes", "other_gpu_processes"}]  # fmt: skip
    for number, answer in enumerate(play(*jobs), start=1):
        (row,) = answer["nvml"]["rows"]
        assert row["reasons"] == dict.fromkeys(
            set().union(*lost[:number]), "the driver's answer cannot be read: no such format"
        )
        assert row["values"]["gpu_percent"] == 93.0


def test_a_name_that_is_no_text_and_a_reading_that_is_no_number_cost_nothing_else(play: Play) -> None:
    strange = FULL.replace(CURVE, "curve power 0:4294967.295\nname NVIDIA \udcff")
    strange = strange.replace("curve gpu 0:93", "curve gpu 0:4294967295")
    (answer,) = play(strange)
    assert answer["nvml"]["details"]["name"] == "NVIDIA \ufffd"
    (row,) = answer["nvml"]["rows"]
    assert set(row["reasons"]) == {"gpu_power_w", "gpu_percent"}
    assert "4294967295 is no reading" in row["reasons"]["gpu_power_w"]
    assert (row["values"]["gpu_power_w"], row["values"]["temperature_c"]) == (None, 62.0)


def test_a_library_of_an_older_driver_gives_what_it_has(play: Play) -> None:
    absent = "GetTotalEnergyConsumption GetTemperatureV GetCurrentClocksEventReasons GetComputeRunningProcesses_v3"
    absent = [f"nvmlDevice{name}" for name in (*absent.split(), "GetMigMode", "IsMigDeviceHandle")] + [
        "nvmlGpmQueryDeviceSupport"
    ]
    (answer,) = play(FULL, absent=absent)
    (row,) = answer["nvml"]["rows"]
    lacking = {"gpu_energy_j", "gpu_memory_bytes", "other_gpu_processes"}
    assert row["reasons"] == dict.fromkeys(lacking, "not in this driver's library")
    assert {name for name, value in row["values"].items() if value is None} == lacking
    assert (row["values"]["temperature_c"], row["values"]["throttle_reasons"]) == (61.0, float(0x4))
    assert answer["gpm"]["unavailable"] == "GPM: not in this driver's library"
    (answer,) = play(FULL, absent=("nvmlInitWithFlags",))
    assert answer["nvml"]["unavailable"] == "not in this driver's library"


def test_others_on_the_board_are_counted_and_their_memory_is_not_ours(play: Play, tmp_path: Path) -> None:
    busy = f"gpu {ONE}\nprocess SELF 1000\nprocess 999999 5000\ngpu {OTHER}\nprocess SELF 70\n"
    foreign = f"gpu {ONE}\nprocess 999999 5000\n"
    jobs = ({"script": busy, "uuid": OTHER}, foreign, {"script": foreign, "foreign_ids": True})
    rows = [answer["nvml"]["rows"][0] for answer in play(busy, *jobs, f"gpu {ONE}\nprocess SELF -1\n")]
    read = [(row["values"]["gpu_memory_bytes"], row["values"]["other_gpu_processes"]) for row in rows]
    assert read == [(1000.0, 1.0), (70.0, 0.0), (None, 1.0), (None, None), (None, 0.0)]
    assert rows[2]["reasons"] == {"gpu_memory_bytes": "the driver lists none of our processes"}
    assert "another namespace of process ids" in rows[3]["reasons"]["gpu_memory_bytes"]
    assert "does not say how much memory" in rows[4]["reasons"]["gpu_memory_bytes"]
    # The inode is not that of the initial namespace, or unknown.
    assert may_be_foreign_ids(tmp_path)
    assert may_be_foreign_ids(tmp_path / "none")


def test_gpm_gives_means_between_its_samples(play: Play, tmp_path: Path) -> None:
    times = [float(second) for second in range(1, 21)]
    (answer,) = play(GPM, times=times)
    rows = [row["values"] for row in answer["gpm"]["rows"]]
    assert rows[0] == {"sm_percent": 4.0, "sm_occupancy_percent": 31.5, "tensor_percent": 5.0, "dram_percent": 12.25}
    assert rows[14]["sm_percent"] == pytest.approx(53.0)
    quantities = phases_of(answer, times, {"train": [(2.0, 12.0)]}, tmp_path)["train"].quantities
    assert quantities["sm_percent"].mean == pytest.approx((16 + 80) / 2 * 0.8 + (80 + 68) / 2 * 0.2)
    dram = quantities["dram_percent"]
    assert [dram.mean, dram.median, dram.p5, dram.p95, dram.peak] == [pytest.approx(12.25)] * 5
    assert (dram.unit, dram.num_samples, dram.coverage) == ("%", 11, 1.0)


def test_a_gpm_that_is_refused_or_fails_is_a_reason(play: Play) -> None:
    refused = {
        FULL: "this GPU has no GPM counters: they came with Hopper",
        GPM + "fail nvmlGpmQueryDeviceSupport 3\n": "GPM: not supported by this GPU",
        GPM + "fail nvmlGpmSampleGet 4\n": "GPM: no permission",
    }
    failing = [GPM + "gpm_fail 3\n", GPM + "fail nvmlGpmMetricsGet 999 2\n", GPM + "fail nvmlGpmSampleGet 15 2\n"]
    failing += [GPM.replace("0:31.5", "0:nan")]
    answers = [answer["gpm"] for answer in play(*refused, *failing, times=[1.0, 2.0, 3.0])]
    assert [answer["unavailable"] for answer in answers[:3]] == list(refused.values())
    metric, call, lost, infinite = answers[3:]
    for row in metric["rows"]:
        assert row["values"] == dict.fromkeys(quantities_of("gpm"))
        assert row["reasons"]["dram_percent"] == "GPM: not supported by this GPU"
    assert call["rows"][0]["values"]["sm_percent"] == 4.0
    assert call["rows"][1]["reasons"]["sm_percent"] == "GPM: the driver answered: Unknown Error (NVML error 999)"
    assert (len(lost["rows"]), "fell off the bus" in lost["lost"]) == (1, True)
    assert infinite["rows"][0]["reasons"] == {"sm_occupancy_percent": "GPM: the driver gave no finite number"}


def test_a_library_that_is_there_and_cannot_be_loaded_is_not_missing(play: Play, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "libnvidia-ml.so.1").write_bytes(b"no library")
    (answer,) = play(FULL, library=folder)
    for name in ("nvml", "gpm"):
        assert answer[name]["unavailable"].startswith("the NVIDIA driver's library cannot be loaded: ")
        assert "libnvidia-ml.so.1" in answer[name]["unavailable"]
