"""Options and exit statuses of `harness run` that need no worker; the others are in tests/harness/runs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness import data
from harness.commands.main import main


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (signal.SIGUSR1, 75, "harness: stopped (SIGUSR1); the same command continues"),
        (signal.SIGTERM, 75, "harness: stopped (SIGTERM); the same command continues"),
        (signal.SIGINT, 130, "harness: stopped"),
    ],
)
def test_a_signal_before_the_first_run_has_the_status_of_one_during_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: int, said: str
) -> None:
    """While data is downloaded, say."""
    previous = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(data, "prepare", lambda *_, **__: os.kill(os.getpid(), number))
    done = CliRunner().invoke(main, ["run", "calibration", "--results", str(tmp_path), "--device", "cpu"])
    signal.signal(signal.SIGTERM, previous)
    assert done.exit_code == status
    assert done.stderr.strip() == said
    assert done.stdout == ""


def test_help_says_what_status_75_means() -> None:
    text = " ".join(CliRunner().invoke(main, ["run", "--help"]).stdout.split())
    assert "75 saved before the runs were done" in text
    assert "run the same command again to continue" in text


@pytest.mark.parametrize("option", ["--time-limit", "--time-budget"])
def test_adaptive_protocols_are_refused_with_limits_before_anything_is_prepared(tmp_path: Path, option: str) -> None:
    path = tmp_path / "adaptive.yaml"
    path.write_text(
        "suite: adaptive\n"
        "dataset: {kind: markov, order: 1, symbols: 5, train: 4000, valid: 600, test: 700}\n"
        "metrics: [bpc]\n"
        "evaluation: {adaptive: {dynamic_sgd: {lr: [1e-3]}}}\n"
        "entries:\n"
        "  qrnn:\n"
        "    model: {builder: qrnn, layers: 1, hidden: 8, embedding: 6}\n"
        "    recipe: {optimizer: adam, lr: 1e-2, batch: 8, bptt: 20, epochs: 2}\n"
    )
    done = CliRunner().invoke(main, ["run", str(path), option, "100", "--device", "cpu"])
    assert done.exit_code == 2
    assert "qrnn: adaptive protocols take no --time-budget or --time-limit" in done.stderr
