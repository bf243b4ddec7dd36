"""Usable cores from control groups like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.monitoring.sensors import cores


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "allowed", lambda _pid: frozenset(range(8)))


def tree(root: Path, groups: str, files: dict[str, str]) -> tuple[Path, Path]:
    proc, mounted = root / "proc", root / "cgroup"
    (proc / "7").mkdir(parents=True)
    (proc / "7" / "cgroup").write_text(groups)
    mounted.mkdir()
    for name, text in files.items():
        (mounted / name).parent.mkdir(parents=True, exist_ok=True)
        (mounted / name).write_text(text)
    return proc, mounted


V1 = "cpu,cpuacct/a/cpu.cfs_"


@pytest.mark.parametrize(
    ("groups", "files", "usable"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "max 100000\n"}, 8.0),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "1600000 100000\n"}, 8.0),
        ("0::/host/path\n", {"cpu.max": "250000 100000\n"}, 2.5),
        ("4:cpu,cpuacct:/a\n0::/\n", {f"{V1}quota_us": "50000", f"{V1}period_us": "100000"}, 0.5),
        ("1:cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, 8.0),
        ("1:cpu:/a\n", {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3.0),
        ("0::/a\n", {"a/cpu.max": "nonsense\n"}, 8.0),
        ("", {}, 8.0),
    ],
)  # fmt: skip
def test_the_tightest_quota_on_the_way_up_counts(
    tmp_path: Path, groups: str, files: dict[str, str], usable: float
) -> None:
    assert cores.usable(7, *tree(tmp_path, groups, files)) == usable


def test_a_process_without_control_groups_has_its_affinity(tmp_path: Path) -> None:
    assert cores.usable(7, tmp_path, tmp_path) == 8.0
