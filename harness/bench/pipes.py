"""The ends of the pipes between a benchmark and its child processes: lines of JSON, jobs in and results out.

Both ends run the same code, so nothing is checked. NaN stays NaN: a diverged loss is not read as no loss.
"""

from __future__ import annotations

import os
from typing import TextIO


def open_reply_channel() -> TextIO:
    """Take over standard output for replies; everything else that prints goes to standard error from now on."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    return channel


def exit_reason(status: int, stderr: str) -> str:
    """Describe a child that ended without a reply; the last line of its standard error is quoted."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return f"ended with status {status}" + (f": {lines[-1][:200]}" if lines else "")
