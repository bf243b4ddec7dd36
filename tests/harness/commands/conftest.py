from __future__ import annotations

from pathlib import Path

import pytest
from invoking import call

ORACLE = """
suite: oracle-only
task: Language Modelling
dataset: {kind: markov, order: 1, symbols: 4, train: 500, valid: 400, test: 600}
metrics: [bpc]
entries:
  oracle: {title: oracle, model: {builder: markov-oracle, order: 1, symbols: 4, concentration: 0.2, seed: 0}}
"""


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("suite") / "oracle.yaml"
    path.write_text(ORACLE)
    return path


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory, suite: Path) -> Path:
    """The results folder of a real run."""
    folder = tmp_path_factory.mktemp("cli") / "results"
    done = call("run", suite, "--results", folder, "--device", "cpu", "--quiet")
    assert done.exit_code == 0, done.stderr
    assert "| oracle " in done.stdout
    assert "| limit " in done.stdout
    assert (folder / "LEADERBOARD.md").read_text().startswith("# Leaderboard")
    return folder
