"""`harness new model`: what it writes passes its own test and fits its suite."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from invoking import call

from harness.suite.loader import load
from lm_models.plugin import contract


def test_the_files_work_as_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", "")
    done = call("new", "model", "my_small_model", "--in", tmp_path / "mine")
    assert done.exit_code == 0, done.output
    names = {path.name for path in (tmp_path / "mine").iterdir()}
    assert names == {"my_small_model.py", "my_small_model.yaml", "my_small_model.txt", "test_my_small_model.py"}
    model_class = runpy.run_path(str(tmp_path / "mine/my_small_model.py"))["MySmallModel"]
    contract.check(model_class(vocab_size=12), vocab_size=12)
    suite = load(tmp_path / "mine/my_small_model.yaml")
    assert suite.entries[0].model == {"builder": "my_small_model:MySmallModel", "hidden": 64, "dropout": 0.1}
    again = call("new", "model", "my_small_model", "--in", tmp_path / "mine")
    assert (again.exit_code, "exists already" in again.output) == (2, True)


@pytest.mark.parametrize(
    ("name", "said"), [("My-Model", "cannot name a Python file"), ("class", "a word of Python"), ("json", "installed")]
)
def test_a_name_that_would_not_work_is_refused(tmp_path: Path, name: str, said: str) -> None:
    done = call("new", "model", name, "--in", tmp_path)
    assert (done.exit_code, said in done.output) == (2, True)
    assert not list(tmp_path.iterdir())
