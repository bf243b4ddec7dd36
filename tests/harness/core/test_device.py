"""What `auto` means: asked of processes that answer as a driver and torch would."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.core import device
from harness.core.errors import DeviceError


def answers(text: str, monkeypatch: pytest.MonkeyPatch, *, version: str = "2.13.0") -> str:
    """What `auto` becomes where the probe is this program."""
    monkeypatch.setattr(device, "PROBE", text)
    monkeypatch.setattr(device.metadata, "version", lambda name: version)
    return device.resolve("auto")


@pytest.mark.parametrize(
    ("probe", "found", "said"),
    [
        ("print('boards', 1); print('cuda', True)", "cuda", ""),
        ("print('a library says hello'); print('boards', 2); print('cuda', True)", "cuda", ""),
        ("raise SystemExit", "cpu", ""),
        ("print('boards', 0); print('cuda', False)", "cpu", ""),
        ("print('boards', 1); print('cuda', False)", "cpu", "but torch cannot use it; see `harness doctor`"),
        ("print('boards', 1); import no_such_torch", "cpu", "No module named 'no_such_torch'"),
    ],
)
def test_auto_is_cuda_where_board_and_torch_agree_and_else_says_why_not(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], probe: str, found: str, said: str
) -> None:
    assert answers(probe, monkeypatch) == found
    err = capfd.readouterr().err
    assert said in err
    assert bool(err) == bool(said)


def test_a_driver_that_hangs_is_a_cpu(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(device, "PROBE_TIMEOUT_S", 0.5)
    assert answers("import time; time.sleep(600)", monkeypatch) == "cpu"
    assert "did not answer within 0.5 s" in capfd.readouterr().err


def test_a_cpu_build_of_torch_is_asked_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert answers("print('boards', 1); print('cuda', True)", monkeypatch, version="2.13.0+cpu") == "cpu"


def test_modules_of_the_current_folder_are_not_taken_for_the_librarys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "random.py").write_text("raise RuntimeError('mine')")
    assert answers("import random; print('boards', 1); print('cuda', True)", monkeypatch) == "cuda"


def test_the_probe_itself_runs(capfd: pytest.CaptureFixture[str]) -> None:
    seen, reason = device._probed([sys.executable, "-P", "-c", device.PROBE])
    import torch

    assert (seen, reason) == (torch.cuda.is_available(), None)


def test_names_are_taken_as_they_are_and_unknown_ones_refused() -> None:
    assert [device.resolve(name) for name in ("cpu", "cuda", "cuda:3")] == ["cpu", "cuda", "cuda:3"]
    with pytest.raises(DeviceError, match="device 'gpu' is unknown"):
        device.resolve("gpu")
