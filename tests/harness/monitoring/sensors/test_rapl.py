"""Package energy from folders like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.monitoring.sensors import Target, rapl
from harness.monitoring.sensors.base import SensorLost, SensorUnavailable
from harness.monitoring.sensors.rapl import Rapl


def domain(root: Path, folder: str, name: str, energy_uj: int) -> Path:
    path = root / folder
    path.mkdir(parents=True)
    for file, text in {"name": name, "energy_uj": energy_uj, "max_energy_range_uj": 1_000_000_000}.items():
        (path / file).write_text(f"{text}\n")
    return path / "energy_uj"


def test_packages_are_added_and_continue_after_their_range_and_parts_are_left_out(
    tmp_path: Path, target: Target
) -> None:
    first = domain(tmp_path, "intel-rapl:0", "package-0", 999_000_000)
    second = domain(tmp_path, "intel-rapl:1", "package-1", 7_000_000)
    part = domain(tmp_path, "intel-rapl:0:0", "core", 1)
    domain(tmp_path, "intel-rapl:2", "psys", 1)
    sensor = Rapl(tmp_path)
    assert sensor.open(target) == {"packages": ["package-0", "package-1"]}
    part.write_text("99999999")
    second.write_text("7250000")
    for text, energy_j in (("500000", 1.75), ("1500000", 2.75)):
        first.write_text(text)
        assert sensor.read().values == {"package_energy_j": energy_j}
    first.unlink()
    with pytest.raises(SensorLost, match="any more"):
        sensor.read()


def test_missing_and_unreadable_counters_are_reasons(
    tmp_path: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_path: Path) -> int:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(SensorUnavailable, match="exposes no package energy"):
        Rapl(tmp_path).open(target)
    domain(tmp_path, "intel-rapl:0", "package-0", 1)
    monkeypatch.setattr(rapl, "_number", refused)
    with pytest.raises(SensorUnavailable, match="by root only"):
        Rapl(tmp_path).open(target)
