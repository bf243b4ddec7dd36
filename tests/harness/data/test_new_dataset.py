"""Adding a dataset takes a module and a line in DATASETS: everything else follows from the entry."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner
from tiny_datasets import BODY, byte_dataset

from harness import data
from harness.commands.main import main
from harness.data import Dataset
from harness.suite import load
from harness.suite.schema import schema

SUITE = """
suite: mine
dataset: little
metrics: [bpc]
entries:
  lstm:
    model: {builder: awd-lstm, layers: 1, hidden: 8, embedding: 8}
    recipe: {optimizer: adam, lr: 1e-3, batch: 2, bptt: 5, epochs: 1}
"""


def test_commands_schema_and_suites_know_a_new_entry_and_its_alias(
    tmp_path: Path, register: Callable[[Dataset], Dataset]
) -> None:
    register(replace(byte_dataset(BODY), alias_titles={"little": "The Little One"}))
    (tmp_path / "tiny.bin").write_bytes(BODY)

    def rows(*command: str) -> dict[str, dict[str, object]]:
        done = CliRunner().invoke(main, [*command, "--json"], catch_exceptions=False)
        return {row["name"]: row for row in json.loads(done.stdout)}

    table, status = rows("list", "datasets"), rows("data", "list", "--data", str(tmp_path))
    for name, title in (("tiny", "Tiny"), ("little", "The Little One")):
        assert table[name] == {
            "name": name, "title": title, "unit": "byte", "vocabulary": 7,
            "train tokens": 140, "valid tokens": 70, "test tokens": 70,
        }  # fmt: skip
        assert (status[name]["title"], status[name]["where"]) == (title, "found")
        assert name in schema()["properties"]["dataset"]["anyOf"][0]["enum"]
    (tmp_path / "mine.yaml").write_text(SUITE)
    assert load(tmp_path / "mine.yaml").dataset_title == "The Little One"
    assert data.identify("little") == data.identify("tiny")
    assert data.prepare("little", roots=[tmp_path]) == data.prepare("tiny", roots=[tmp_path])
