"""The real command around real commands: their exit status, their signals, and what they cost."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner
from waiting import wait_for

from harness.commands.command_costs import _forwarded_signals, _measure
from harness.commands.costs_text import account_text
from harness.commands.main import main
from harness.results.costs import AttemptCosts, PhaseCosts, QuantityCosts
from harness.system.source import SEARCH_PATH

# Works once its watch has read it, however late that was, and leaves its own account of its time.
BUSY = """
import os, sys, time
from pathlib import Path
until = time.monotonic() + 60
while not any(len(path.read_bytes().splitlines()) > 1 for path in Path(os.environ["TMPDIR"]).glob("*/trace.csv")):
    if time.monotonic() > until: sys.exit("nobody watches")
    time.sleep(0.02)
kept = bytearray(150_000_000)
kept[::4096] = b"x" * len(kept[::4096])
until = time.process_time() + 1.5
while time.process_time() < until: sum(range(1000))
print("said by the command")
Path(os.environ["TMPDIR"], "told").write_text(str(time.process_time()))
sys.exit(7)
"""


def start(*arguments: str, environment: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "harness.commands.main", "monitor", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": SEARCH_PATH, **(environment or {})},
        **options,
    )


def monitor(*arguments: str, folder: Path | None = None) -> tuple[int, str, str]:
    """`folder`: where the watch keeps its files meanwhile."""
    process = start(*arguments, environment={"TMPDIR": str(folder)} if folder else None)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_a_command_is_watched_and_its_status_is_ours(tmp_path: Path) -> None:
    files = tmp_path / "costs.json", tmp_path / "trace.csv"
    code, out, err = monitor("--json", str(files[0]), "--trace", str(files[1]), "--",
                             sys.executable, "-c", BUSY, folder=tmp_path)  # fmt: skip
    assert (code, out) == (7, "said by the command\n"), err
    account = json.loads(files[0].read_text())
    usage = account["rusage"]
    told = float((tmp_path / "told").read_text())
    assert told > 1.5
    assert usage["user_s"] + usage["system_s"] == pytest.approx(told, rel=0.1), "and what its end took"
    assert account["process"]["cpu_seconds"] == pytest.approx(usage["user_s"] + usage["system_s"], rel=0.2)
    assert account["process"]["peak_rss_bytes"] == pytest.approx(usage["max_rss_bytes"], rel=0.05)
    assert account["process"]["peak_rss_bytes"] > 150_000_000
    assert account["returncode"] == 7
    rows = list(csv.DictReader(files[1].read_text().splitlines()))
    assert {"command"} <= {row["phase"] for row in rows}
    assert "ended with status 7" in err
    assert "cpu_percent" in err
    assert account["unknown"]["gpu_percent"] in err


class Ending:
    """A watch that looks at the process when it is asked to end."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.child = child

    def start(self) -> None: ...

    def phase(self, _name: str) -> nullcontext[None]:
        return nullcontext()

    def stop(self) -> AttemptCosts:
        self.status = psutil.Process(self.child.pid).status()
        return AttemptCosts()


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="without waitid a process is waited for by reaping it")
def test_the_watch_ends_before_the_command_is_reaped() -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    ending: Any = Ending(child)
    measured = _measure(child, ending)
    assert (ending.status, child.returncode, measured.usage is None) == (psutil.STATUS_ZOMBIE, 0, False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_the_commands_to_answer(tmp_path: Path, number: signal.Signals) -> None:
    ready = tmp_path / "ready"
    answers = f"""
import pathlib, signal, sys, time
signal.signal({int(number)}, lambda *_: sys.exit(9))
pathlib.Path({str(ready)!r}).touch()
time.sleep(200)
"""
    process = start("--", sys.executable, "-c", answers, start_new_session=True)
    wait_for(ready.exists)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 9, err
    assert "ended with status 9" in err
    assert "Traceback" not in err


def test_a_signal_that_comes_while_the_command_is_being_started_is_passed_on() -> None:
    with _forwarded_signals() as follow:
        child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
        signal.raise_signal(signal.SIGTERM)
        follow(child)
        child.communicate(timeout=120)
    assert child.returncode == -signal.SIGTERM


# Python cannot name 40.
@pytest.mark.parametrize(("number", "said"), [(9, "was ended by SIGKILL"), (40, "was ended by signal 40")])
def test_a_command_that_a_signal_ends_has_a_shells_status(number: int, said: str) -> None:
    code, _, err = monitor("--", sys.executable, "-c", f"import os; os.kill(os.getpid(), {number})")
    assert (code, said in err, "Traceback" in err) == (128 + number, True, False)


def test_options_of_the_command_are_its_own() -> None:
    code, out, _ = monitor("--", sys.executable, "-c", "import sys; print(sys.argv[1:])", "--json", "-h", "--", "x")
    assert (code, out) == (0, "['--json', '-h', '--', 'x']\n")


@pytest.mark.parametrize(("command", "status"), [("no-such-command-anywhere", 127), ("/", 126)])
def test_a_command_that_cannot_be_started_is_one_line(command: str, status: int) -> None:
    code, out, err = monitor("--", command)
    assert (code, out, err.count("\n")) == (status, "", 1)
    assert f"harness: {command}: cannot be started" in err


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--json", "file/x.json", "file/x.json: cannot be written: {0}/file is a file, not a folder"),
        ("--trace", ".", ".: cannot be written: it is a folder"),
        ("--gpu", "99", "--gpu 99: "),
    ],
)
def test_bad_options_are_one_line_before_the_command_runs(
    option: str, value: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, ["monitor", option, value, "--", "mkdir", "ran"])
    assert result.exit_code == 2
    assert result.stderr.startswith("harness: " + message.format(tmp_path))
    assert (result.stderr.count("\n"), (tmp_path / "ran").exists()) == (1, False)


def test_nothing_seen_is_no_mean() -> None:
    seen = QuantityCosts(unit="bytes", mean=2e9, median=2e9, p5=2e9, p95=2e9, peak=3e9, num_samples=1)
    quantities = {"seen": seen, "unseen": seen.model_copy(update={"num_samples": 0})}
    phase = PhaseCosts(seconds=1.0, cpu_seconds=None, quantities=quantities, energy={}, unknown={})
    text = account_text(AttemptCosts(phases={"command": phase}), None)
    cells = {line.split("|")[1].strip(): line.split("|")[3:8] for line in text.splitlines() if "seen" in line}
    assert [cell.strip() for cell in cells["seen"]] == ["2.00"] * 4 + ["3.00"]
    assert {cell.strip() for cell in cells["unseen"]} == {"—"}
    assert "Quantity" not in account_text(
        AttemptCosts(phases={"command": phase.model_copy(update={"quantities": {}})}), None
    )
