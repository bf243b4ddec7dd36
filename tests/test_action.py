"""The composite action and the workflows: valid by their published schemas, and their steps run in plain bash."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from forking import write_python
from ruamel.yaml import YAML

from harness.system.source import SEARCH_PATH

ROOT = Path(__file__).parents[1]
ACTION = YAML(typ="safe").load(ROOT / "action.yml")
EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")

SUITE = """
suite: tiny
task: Language Modelling
dataset: {kind: markov, order: 1, symbols: 4, concentration: 0.2, seed: 1, train: 2000, valid: 2000, test: 2000}
metrics: [bpc]
entries:
  oracle:
    model: {builder: markov-oracle, order: 1, symbols: 4, concentration: 0.2, seed: 1}
"""


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-actions", ["action.yml"]),
        ("vendor.github-workflows", ["docs/ci/*.yml", ".github/workflows/*.yml"]),
    ],
)
def test_published_schemas_accept_the_files(schema: str, files: list[str]) -> None:
    paths = [str(path) for pattern in files for path in sorted(ROOT.glob(pattern))]
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_expression_is_inside_a_script() -> None:
    for path in [ROOT / "action.yml", *(ROOT / "docs/ci").glob("*.yml")]:
        text = path.read_text()
        for block in re.findall(r"^( +)run: (?:\|\n((?:\1  .*\n|\n)+)|(.*))", text, re.MULTILINE):
            assert not EXPRESSION.search("".join(block)), path


class Job:
    """Run the bash steps of the action as a runner does, with its files for outputs and the summary."""

    def __init__(self, folder: Path, **inputs: str) -> None:
        self.folder, self.outputs = folder, {}
        self.inputs = {name: field.get("default", "") for name, field in ACTION["inputs"].items()} | inputs
        (folder / "bin").mkdir(exist_ok=True)
        python, command = folder / "bin/python", folder / "bin/harness"
        write_python(python)
        command.write_text(f'#!/bin/sh\nexec "{python}" -m harness "$@"\n')
        command.chmod(0o755)

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        step: dict[str, Any] = next(step for step in ACTION["runs"]["steps"] if step.get("name") == name)
        output = self.folder / "output"
        output.write_text("")
        environment = {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": SEARCH_PATH,
            "RUNNER_TEMP": str(self.folder),
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary.md"),
            **{key: EXPRESSION.sub(self._value, text) for key, text in step["env"].items()},
        }
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        self.outputs |= dict(line.split("=", 1) for line in output.read_text().splitlines())
        return done

    def _value(self, match: re.Match[str]) -> str:
        kind, _, name = match[1].partition(".")
        return self.inputs[name] if kind == "inputs" else self.outputs[name.removeprefix("gate.outputs.")]


def test_the_steps_run_gate_update_and_report(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    inputs = {"suite": "suite.yaml", "baseline": "baseline.json"}
    update, gate = Job(tmp_path, **inputs, **{"update-baseline": "true"}), Job(tmp_path, **inputs)
    done = update.run("Run the suite")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "harness-cache").is_dir()

    assert update.run("Gate").returncode == 0
    assert update.run("Verdict").returncode == 0

    assert gate.run("Gate").returncode == 0
    assert gate.outputs["status"] == "0"
    assert "pass" in Path(gate.outputs["comment"]).read_text()
    assert (tmp_path / "harness-gate.xml").read_text().startswith("<?xml")

    baseline = json.loads((tmp_path / "baseline.json").read_text())
    for row in baseline["rows"]:
        row["value"] -= 1.0
    (tmp_path / "baseline.json").write_text(json.dumps(baseline))
    assert gate.run("Gate").returncode == 0, "the comment and the records are kept before the job fails"
    assert gate.run("Verdict").returncode == 1
    assert "regression" in (tmp_path / "summary.md").read_text()
