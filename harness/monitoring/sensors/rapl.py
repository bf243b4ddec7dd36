"""Energy of the processor packages, from the counters the kernel's power capping framework exposes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.monitoring.sensors.base import Reading, SensorLost, SensorUnavailable, Target

POWERCAP = Path("/sys/class/powercap")
QUANTITY = "package_energy_j"


@dataclass(slots=True)
class _Domain:
    path: Path
    range_uj: int
    last_uj: int
    counted_uj: int = 0


class Rapl:
    """Sensor of whole packages: all that runs on them counts, and their memory only where the chip includes it."""

    guarded = False
    period_s = 0.0

    def __init__(self, root: Path = POWERCAP) -> None:
        self._root = root

    def open(self, target: Target) -> dict[str, Any]:
        folders = [folder for folder in sorted(self._root.glob("*-rapl:*")) if _name(folder).startswith("package")]
        if not folders:
            raise SensorUnavailable(f"the kernel exposes no package energy ({self._root}/*-rapl:*)")
        try:
            self._domains = [
                _Domain(folder / "energy_uj", _number(folder / "max_energy_range_uj"), _number(folder / "energy_uj"))
                for folder in folders
            ]
        except PermissionError:
            raise SensorUnavailable("package energy may be read by root only (energy_uj: permission denied)") from None
        except (OSError, ValueError) as error:
            raise SensorUnavailable(f"package energy cannot be read: {error}") from None
        return {"packages": [_name(folder) for folder in folders]}

    def read(self) -> Reading:
        """Joules since `open`. A counter that fell has passed its range and begun again."""
        for domain in self._domains:
            try:
                now = _number(domain.path)
            except (OSError, ValueError) as error:
                raise SensorLost(f"package energy cannot be read any more: {error}") from None
            passed = now - domain.last_uj
            domain.counted_uj += passed if passed >= 0 else passed + domain.range_uj
            domain.last_uj = now
        return Reading({QUANTITY: sum(domain.counted_uj for domain in self._domains) / 1e6})

    def close(self) -> None:
        pass


def _name(folder: Path) -> str:
    try:
        return (folder / "name").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    return int(path.read_text(encoding="utf-8"))
