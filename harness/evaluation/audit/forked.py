"""Compute something in a copy of this process, which shares nothing with it but the answer."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import torch
from torch import Tensor

from harness.core.errors import CheckpointError
from harness.core.messages import crash
from harness.evaluation.audit import sealed

_WAITS = 20


def is_safe(device: torch.device) -> bool:
    """Whether this process can be copied while a model is on the device."""
    return device.type == "cpu" and sys.platform.startswith("linux")


class Forked:
    """A copy of this process, made at once, that computes a matrix and ends.

    Args:
        read: computes the matrix.
    """

    def __init__(self, read: Callable[[], Tensor]) -> None:
        self._answer, target = Pipe(duplex=False)
        with warnings.catch_warnings():
            # Python warns of locks that other threads hold. Those report progress, which the copy does not.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process = os.fork()
        if self._process == 0:
            _run(read, target)
        target.close()

    def answer(self, seconds: float) -> Tensor:
        """Wait for the matrix, float64, and count the files that the copy opened as opened here.

        Args:
            seconds: to wait at most.

        Raises:
            CheckpointError: the copy raised an error, ended without an answer, or takes longer.
        """
        try:
            # Several short waits: time in which both processes were suspended shortens one of them only.
            if not any(self._answer.poll(seconds / _WAITS) for _ in range(_WAITS)):
                raise CheckpointError(
                    f"the copy of the process that reads token by token has not ended in {seconds:,.0f} s"
                )
            values, error, opened = json.loads(self._answer.recv_bytes())
        except EOFError:
            raise CheckpointError("the copy of the process ended without an answer") from None
        finally:
            self.end()
        for path in opened:
            sealed.report(path)
        if error is not None:
            raise CheckpointError(error)
        return torch.tensor(values, dtype=torch.float64)

    def end(self) -> None:
        """End the copy, if it still runs."""
        if not self._answer.closed:
            self._answer.close()
            os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)


def _run(read: Callable[[], Tensor], target: Connection) -> None:
    """Send what `read` returns, or its error, and the files that it opened; end this process."""
    try:
        # The threads of torch are not in the copy.
        torch.set_num_threads(1)
        values, error = None, None
        with sealed.Sealed() as opened:
            try:
                values = read().tolist()
            except Exception as raised:
                error = crash(raised)
        target.send_bytes(json.dumps((values, error, sorted(map(str, opened.others)))).encode())
    finally:
        os._exit(0)
