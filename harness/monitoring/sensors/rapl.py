"""Energy of the processor packages, from the counters of the kernel's power capping framework."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.monitoring.sensors.base import Detail, Quantity, Reading, SensorLost, SensorUnavailable, Target

POWERCAP = Path("/sys/class/powercap")


@dataclass(slots=True)
class _Domain:
    path: Path
    range_uj: int
    last_uj: int
    counted_uj: int = 0


class Rapl:
    """Reads whole packages: every process on them counts, and memory only where the chip includes it."""

    quantities = {"package_energy_j": Quantity("J", "counter", energy="package")}
    guarded = False
    period_s = 0.0
    install_hint = (
        "where /sys/class/powercap/*/energy_uj exists, root can let it be read; elsewhere package energy is null"
    )

    def __init__(self, root: Path = POWERCAP) -> None:
        self._root = root

    def open(self, target: Target) -> dict[str, Detail]:
        """Find the packages."""
        # Their parts (core, uncore) and psys overlap with them and would be counted twice.
        folders = [folder for folder in sorted(self._root.glob("*-rapl:*")) if _name(folder).startswith("package")]
        if not folders:
            raise SensorUnavailable(f"the kernel exposes no package energy ({self._root}/*-rapl:*)")
        try:
            self._domains = [
                _Domain(folder / "energy_uj", _number(folder / "max_energy_range_uj"), _number(folder / "energy_uj"))
                for folder in folders
            ]
        except PermissionError:
            # Readable by root only since 2020: power traces leak keys (CVE-2020-8694).
            raise SensorUnavailable("package energy may be read by root only (energy_uj: permission denied)") from None
        except (OSError, ValueError) as error:
            raise SensorUnavailable(f"package energy cannot be read: {error}") from None
        return {"packages": [_name(folder) for folder in folders]}

    def read(self) -> Reading:
        """Joules since `open`."""
        for domain in self._domains:
            try:
                now = _number(domain.path)
            except (OSError, ValueError) as error:
                raise SensorLost(f"package energy cannot be read any more: {error}") from None
            gain = now - domain.last_uj
            # The counter wraps at its range, on a busy server within an hour.
            domain.counted_uj += gain if gain >= 0 else gain + domain.range_uj
            domain.last_uj = now
        return Reading({"package_energy_j": sum(domain.counted_uj for domain in self._domains) / 1e6})

    def close(self) -> None:
        """Nothing to release."""


def _name(folder: Path) -> str:
    try:
        return (folder / "name").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    return int(path.read_text(encoding="utf-8"))
