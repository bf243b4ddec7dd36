from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.bench import command, sampling
from harness.bench.steps.entries import Entry
from harness.commands.main import main

SMALL = Entry("small", "lstm", "awd-lstm", {"layers": 1, "hidden": 4, "embedding": 4}, batch=2, bptt=3, vocab_size=5)


def test_watched_and_plain_turns_are_set_against_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "SETTLE_S", 0.6)
    row = sampling.measure(rounds=2, turn_s=0.3, entry=SMALL, interval_s=0.1)
    assert {turn: len(samples) for turn, samples in row["samples_ms"].items()} == dict.fromkeys(sampling.TURNS, 2)
    for name in ("watched", "again"):
        low, high = row[f"spread_{name}"]
        assert low <= row[f"ratio_{name}"] <= high
    assert row["sampler_status"] == ["ok", "ok"]
    assert min(row["sampler_num_samples"]) >= 1
    assert "A/A" in sampling.text(row)


def test_the_command_prints_and_keeps_the_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(command.ENTRIES, "small", SMALL)
    row: dict[str, Any] = {
        "entry": "small",
        "samples_ms": {sampling.PLAIN: [1.0]},
        "sampler_share_of_core": [None],
        "sampler_num_samples": [0],
        **{f"ratio_{name}": 1.0 for name in ("watched", "again")},
        **{f"spread_{name}": [0.9, 1.1] for name in ("watched", "again")},
    }
    monkeypatch.setattr(sampling, "measure", lambda **_: row)
    options = ["--case", "small", "--device", "cpu", "--results", str(tmp_path), "--json", str(tmp_path / "rows.json")]
    done = CliRunner().invoke(main, ["bench", "sensors", *options])
    assert done.exit_code == 0, done.output
    assert "no sample was taken" in done.output
    assert json.loads((tmp_path / "rows.json").read_text()) == [row]
    assert CliRunner().invoke(main, ["bench", "sensors", "lstm"]).exit_code == 2
