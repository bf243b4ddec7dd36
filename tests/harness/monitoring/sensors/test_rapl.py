"""Package energy from folders like the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.monitoring.sensors import ProcessTree, SensorLost, SensorUnavailable, Target
from harness.monitoring.sensors.rapl import Rapl


@pytest.fixture
def target() -> Target:
    return Target(ProcessTree(os.getpid()))


def domain(root: Path, folder: str, name: str, energy_uj: int) -> Path:
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text("1000000000\n")
    return path / "energy_uj"


def test_packages_are_added_and_their_parts_left_out(tmp_path: Path, target: Target) -> None:
    first = domain(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    second = domain(tmp_path, "intel-rapl:1", "package-1", 7_000_000)
    part = domain(tmp_path, "intel-rapl:0:0", "core", 1)
    domain(tmp_path, "intel-rapl:2", "psys", 1)
    sensor = Rapl(tmp_path)
    assert sensor.open(target) == {"packages": ["package-0", "package-1"]}
    first.write_text("6500000")
    second.write_text("7250000")
    part.write_text("99999999")
    assert sensor.read().values == {"package_energy_j": 1.75}


def test_a_counter_continues_after_its_range(tmp_path: Path, target: Target) -> None:
    counter = domain(tmp_path, "intel-rapl:0", "package-0", 999_000_000)
    sensor = Rapl(tmp_path)
    sensor.open(target)
    for text, energy_j in (("500000", 1.5), ("1500000", 2.5)):
        counter.write_text(text)
        assert sensor.read().values == {"package_energy_j": energy_j}
    counter.unlink()
    with pytest.raises(SensorLost, match="any more"):
        sensor.read()


def test_missing_and_unreadable_counters_are_reasons(
    tmp_path: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SensorUnavailable, match="exposes no package energy"):
        Rapl(tmp_path).open(target)
    domain(tmp_path, "intel-rapl:0", "package-0", 1)

    def refused(_path: Path) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("harness.monitoring.sensors.rapl._number", refused)
    with pytest.raises(SensorUnavailable, match="by root only"):
        Rapl(tmp_path).open(target)
