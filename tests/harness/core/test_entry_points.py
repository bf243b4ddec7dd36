"""An installed package adds models, datasets, sensors, kernels and formats without a change here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from record_factory import record

from harness.results.store import Store
from harness.system.source import SEARCH_PATH

ENTRY_POINTS = """
[lm_harness.models]
pair = added_model:Pair
[lm_harness.datasets]
letters = added_dataset:LETTERS
ptb-char = added_dataset:REPLACED
[lm_harness.metrics]
nats = added_metric:NATS
[lm_harness.sensors]
load = added_sensor:Load
[lm_harness.kernels]
fo_pool.copied = lm_kernels.fo_pool.reference:fo_pool
[lm_harness.formats]
count = added_format
"""
MODULES = {
    "added_dataset": """
from dataclasses import replace
from harness.data.sources.ptb import PTB_CHAR
LETTERS = replace(PTB_CHAR, title="Letters")
""",
    "added_format": """
def write(table, names=None):
    return f"{len(table.rows)} rows\\n"
""",
    "added_metric": """
import harness
NATS = harness.Metric(
    name="nats", title="Nats", unit="nat/token", short_unit="nat", of_rate=float, slope=lambda rate: 1.0
)
""",
    "added_model": """
import harness, torch

class Pair(harness.Model):
    "Two tokens."
    context = 1
    def __init__(self, vocab_size: int):
        super().__init__()
        self.logits = torch.nn.Embedding(vocab_size, vocab_size)
    def forward(self, tokens_TB, state):
        return self.logits(tokens_TB).log_softmax(-1), state
""",
    "added_sensor": """
import os
from harness.monitoring.sensors.base import Quantity, Reading

class Load:
    quantities = {"load": Quantity("processes", "level")}
    guarded, period_s, install_hint = False, 1.0, ""
    def open(self, target):
        return {}
    def read(self):
        return Reading({"load": os.getloadavg()[0]})
    def close(self):
        pass
""",
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder as `pip install` leaves one."""
    (tmp_path / "added-1.0.dist-info").mkdir()
    (tmp_path / "added-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: added\nVersion: 1.0\n")
    (tmp_path / "added-1.0.dist-info/entry_points.txt").write_text(ENTRY_POINTS)
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


# Several commands in one process: imports take most of the time of each.
COMMANDS = """
import json, sys
from click.testing import CliRunner
from harness.commands.main import main
done = [CliRunner().invoke(main, arguments) for arguments in json.loads(sys.argv[1])]
print(json.dumps([[each.stdout, each.stderr] for each in done]))
"""


def outputs(site: Path, *commands: str) -> list[list[str]]:
    """Standard output and error of each command."""
    path = os.pathsep.join((SEARCH_PATH, str(site)))
    command = [sys.executable, "-c", COMMANDS, json.dumps([each.split() for each in commands])]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True)
    answer: list[list[str]] = json.loads(done.stdout)
    return answer


def harness(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((SEARCH_PATH, str(site)))
    command = [sys.executable, "-m", "harness", *arguments]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)


def test_every_table_has_what_the_package_adds_and_keeps_its_own(site: Path) -> None:
    Store(site / "results").write(record())
    (models, _), (datasets, _), (metrics, _), (checks, _), (table, _), (_, refused) = outputs(
        site,
        "list models --json",
        "list datasets --json",
        "list metrics --json",
        "doctor",
        f"table {site / 'results'} --format count",
        "run ptb-char --set entries.qrnn.kernel=other",
    )
    assert {"name": "pair", "what": "Two tokens.", "keys": ""} in json.loads(models)
    titles = {row["name"]: row["title"] for row in json.loads(datasets)}
    assert (titles["letters"], titles["ptb-char"]) == ("Letters", "Penn Treebank (Character Level)")
    assert {"name": "nats", "title": "Nats", "unit": "nat/token", "better": "lower"} in json.loads(metrics)
    assert "sensor load" in checks
    assert "pair = added_model:Pair (added)" in checks
    assert table.endswith(" rows\n")
    assert "Known: auto, copied, " in refused


def test_a_package_that_cannot_be_imported_is_named_in_one_line(site: Path) -> None:
    (site / "added_dataset.py").write_text("raise OSError('libadded.so is not there')")
    done = harness(site, "list", "datasets")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "added_dataset:LETTERS cannot be loaded: libadded.so is not there" in done.stderr


@pytest.mark.parametrize(
    ("module", "call", "words"),
    [
        ("added_dataset", "sys.exit(0)", ("list", "datasets")),
        ("added_metric", "os._exit(0)", ("list", "metrics")),
        ("added_format", "os._exit(3)", ("table", "RESULTS", "--format", "count")),
    ],
)
def test_a_package_that_ends_the_process_is_named_in_one_line(
    site: Path, module: str, call: str, words: tuple[str, ...]
) -> None:
    """It would otherwise be a success without a word."""
    (site / f"{module}.py").write_text(f"import os, sys\n{call}")
    Store(site / "results").write(record())
    done = harness(site, *(str(site / "results") if word == "RESULTS" else word for word in words))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert module in done.stderr
    assert f"its code calls {call}" in done.stderr
