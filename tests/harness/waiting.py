"""Wait for what other processes do, until it is done, never for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from harness.monitoring.sampler import trace

PATIENCE_S = 120.0
"""A machine that is busy with others may hold any process up for seconds."""


def wait_for(condition: Callable[[], Any], what: str = "it", every_s: float = 0.02) -> Any:
    """What the condition answers once that is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(every_s)
    return found


def readings(folder: Path, phase: str, quantity: str = "rss_bytes") -> list[float]:
    """The values of a quantity that a sampler has read in a phase so far, "" being outside of all."""
    found = trace.read(folder / trace.NAME)
    pairs = zip(found.labels, found.values[quantity], strict=True)
    return [float(value) for label, value in pairs if label == phase and not np.isnan(value)]


def has_ended(process: psutil.Process) -> bool:
    """Whether it is gone, or a zombie that nobody has waited for."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
