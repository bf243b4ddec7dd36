"""The worker's process: deadline, signals, and a parent that is gone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.worker import main
from harness.worker.job import EXIT_RESUME

WORKER = """
import os, signal, sys, time
from harness.worker import main
main.ORPHAN_GRACE_S = {grace}
asked = main._stop_on_signals()
stop = main._stop_at_end_of_input(asked)
if {signal}:
    os.kill(os.getpid(), {signal})
while not stop():
    time.sleep(0.01)
print("asked", flush=True)
time.sleep({more})
"""


@pytest.mark.parametrize(("grace", "more", "status"), [(0.2, 600, EXIT_RESUME), (600, 0, 0)])
def test_a_worker_without_a_parent_may_save_but_not_hang(grace: float, more: float, status: int) -> None:
    """A sleep simulates a driver call that never returns."""
    command = [sys.executable, "-c", WORKER.format(grace=grace, more=more, signal="0")]
    done = subprocess.run(command, input="", capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout.split()) == (status, ["asked"])


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM", "SIGINT"])
def test_signals_ask_a_worker_to_stop(name: str) -> None:
    command = [sys.executable, "-c", WORKER.format(grace=600, more=0, signal=f"signal.{name}")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.read().split() == ["asked"]
        assert process.wait(timeout=120) == 0


def test_a_deadline_is_a_request_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = 100.0, False
    monkeypatch.setattr(main.time, "monotonic", lambda: now)
    stop = main._with_deadline(lambda: asked, 5.0)
    assert not stop()
    now = 105.0
    assert stop()
    now, asked = 100.0, True
    assert stop()
