"""Resolve the device `auto` without importing torch into the calling process."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata

from harness.core.errors import DeviceError
from harness.core.messages import printable

PATTERN = re.compile(r"auto|cpu|cuda(:\d{1,3})?")
# NVML answers at once where no board exists, which spares most machines the import of torch.
# flush: if torch's import then crashes, buffered output would be lost, and the board would seem not to exist.
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
    """Resolve `auto` to cuda if torch can use it, else to cpu; other names are returned as they are.

    If a board exists and torch cannot use it, one line on standard error says why. Raises DeviceError for an unknown
    name.
    """
    if not PATTERN.fullmatch(name):
        raise DeviceError(f"device {name!r} is unknown; take auto, cpu, cuda or cuda:INDEX")
    if name != "auto":
        return name
    if metadata.version("torch").endswith("+cpu"):
        return "cpu"
    seen, reason = _probed([sys.executable, "-P", "-c", PROBE])
    if reason is not None:
        print(printable(f"harness: device auto is the cpu: {reason}"), file=sys.stderr)
    return "cuda" if seen else "cpu"


def _probed(command: list[str]) -> tuple[bool, str | None]:
    """Whether torch can use a board, and the reason if one exists that it cannot use."""
    # A separate process, because a broken driver can hang in its first call.
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return False, f"the NVIDIA driver or torch did not answer within {PROBE_TIMEOUT_S:g} s"
    answers = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith(("boards ", "cuda ")))
    if int(answers.get("boards", "0")) == 0:
        return False, None
    if answers.get("cuda") == "True":
        return True, None
    if "cuda" in answers:
        return False, "there is an NVIDIA board, but torch cannot use it; see `harness doctor`"
    last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), f"status {done.returncode}")
    return False, f"there is an NVIDIA board, but torch could not be asked: {last.strip()}"
