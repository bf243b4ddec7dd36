"""`harness describe`, `list` and `doctor`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from invoking import call

from harness.suite import loader


def test_describe_needs_no_data() -> None:
    [row] = json.loads(call("describe", "enwik8", "--json").stdout)
    assert row["parameters"] == 47_270_045
    assert "3-layer" in call("describe", "suites/ptb-char.yaml").stdout


@pytest.mark.parametrize(
    ("what", "name"), [("suites", "ptb-char"), ("models", "qrnn"), ("datasets", "hutter-prize"), ("metrics", "bpc")]
)
def test_list_names_what_is_installed(what: str, name: str) -> None:
    rows = json.loads(call("list", what, "--json").stdout)
    assert name in [row["name"] for row in rows]
    assert all("problem" not in row for row in rows)
    assert name in call("list", what).stdout


def test_a_broken_suite_is_listed_with_its_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "suites"
    shutil.copytree(loader.SUITES, folder)
    broken = folder / "broken.yaml"
    broken.write_text("suite: broken\nmetrics: [bcp\n")
    monkeypatch.setattr(loader, "SUITES", folder)
    rows = json.loads(call("list", "suites", "--json").stdout)
    assert [row["name"] for row in rows] == [*(path.stem for path in loader.suite_files() if path != broken), None]
    assert str(broken) in rows[-1]["problem"]


def test_doctor_says_what_is_missing_and_how_to_get_it() -> None:
    checks = json.loads(call("doctor", "--json").stdout)
    assert [check["name"] for check in checks[:3]] == ["harness", "python", "torch"]
    assert "compiler" in [check["name"] for check in checks]
    assert all(check["hint"] for check in checks if check["status"] == "missing")
    assert "torch" in call("doctor").stdout
