"""Which device `auto` means, decided without importing torch into the calling process."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata

from harness.core.errors import DeviceError

PATTERN = re.compile(r"auto|cpu|cuda(:\d+)?")
PROBE = """
import pynvml
try:
    pynvml.nvmlInit()
    print("boards", pynvml.nvmlDeviceGetCount(), flush=True)
except pynvml.NVMLError:
    raise SystemExit
import torch
print("cuda", torch.cuda.is_available())
"""
PROBE_TIMEOUT_S = 120.0


def resolve(name: str) -> str:
    """`auto` becomes cuda where torch can use it, else cpu. Raises DeviceError for an unknown name.

    Where there is a board and torch cannot use it, a line on standard error says so: the run will be a CPU's.
    """
    if not PATTERN.fullmatch(name):
        raise DeviceError(f"device {name!r} is unknown; take auto, cpu, cuda or cuda:INDEX")
    if name != "auto":
        return name
    if metadata.version("torch").endswith("+cpu"):
        return "cpu"
    seen, reason = _probed([sys.executable, "-P", "-c", PROBE])
    if reason is not None:
        print(f"harness: device auto is the cpu: {reason}", file=sys.stderr)
    return "cuda" if seen else "cpu"


def _probed(command: list[str]) -> tuple[bool, str | None]:
    """Whether torch can use a board, and where one is there and it cannot, why. In a process apart: drivers hang."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return False, f"the NVIDIA driver or torch did not answer within {PROBE_TIMEOUT_S:g} s"
    told = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith(("boards ", "cuda ")))
    if int(told.get("boards", "0")) == 0:
        return False, None
    if told.get("cuda") == "True":
        return True, None
    if "cuda" in told:
        return False, "there is an NVIDIA board, but torch cannot use it; see `harness doctor`"
    last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), f"status {done.returncode}")
    return False, f"there is an NVIDIA board, but torch could not be asked: {last.strip()}"
