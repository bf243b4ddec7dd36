"""The verdict of an audit in tables of every format."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from record_factory import labelled, record, spec

from harness.core.audits import Check, ScoreAudit
from harness.core.json_values import parse_value
from harness.core.scores import Score
from harness.report import FORMATS, build, read_leaderboard, write
from harness.report.columns import AUDIT_NOTE
from harness.results.record import RunRecord
from harness.results.record_file import plain
from harness.results.store import Store


def audit(*failed: str) -> ScoreAudit:
    checks = [
        Check(name, "a cheat", 0.5, 1.0, "bits", name not in failed, "12 targets")
        for name in ("claim", "mass", "coder")
    ]
    return ScoreAudit(tuple(checks), 12, {"version": "0.1.0"}, 1.5)


def audited(made: RunRecord, *audits: ScoreAudit | None) -> RunRecord:
    scores = [replace(score, audit=each) for score, each in zip(made.scores, audits, strict=True)]
    return replace(made, scores=scores)


def verdicts(*records: RunRecord) -> dict[str, str | None]:
    return {row.split: row.audit for row in build(labelled(*records), []).rows}


def test_a_row_has_the_verdict_of_its_score() -> None:
    assert verdicts(audited(record(), audit(), audit("mass", "coder"))) == {
        "valid": "passed",
        "test": "failed: mass, coder",
    }
    assert verdicts(record()) == {"valid": None, "test": None}


def test_seeds_pass_together_only() -> None:
    one = audited(record(), audit(), audit())
    other = record(1.6, spec_=spec(seed=2))
    assert verdicts(one, audited(other, audit(), audit("mass"))) == {"valid": "passed", "test": "failed: mass"}
    assert verdicts(one, audited(other, audit(), None)) == {"valid": "passed", "test": None}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_shows_it(name: str) -> None:
    text = write(build(labelled(audited(record(), None, audit("coder"))), []), name)
    assert "failed: coder" in text
    if name == "json":
        assert {row["split"]: row["audit"] for row in json.loads(text)} == {"valid": None, "test": "failed: coder"}
    elif name == "csv":
        assert {row["split"]: row["audit"] for row in csv.DictReader(io.StringIO(text))} == {
            "valid": "",
            "test": "failed: coder",
        }
    else:
        assert "Audit" in text


def test_tables_explain_it_once_and_only_if_there_is_one(tmp_path: Path) -> None:
    with_one, without = build(labelled(audited(record(), audit(), None)), []), build(labelled(record()), [])
    start = AUDIT_NOTE.partition(";")[0]
    for name in ("github", "latex"):
        assert write(with_one, name).count(start) == 1
        assert "Audit" not in write(without, name)
    store = Store(tmp_path)
    store.write(audited(record(), audit(), audit()))
    assert read_leaderboard(tmp_path).markdown().count(start) == 1
    store.write(record())
    assert "Audit" not in read_leaderboard(tmp_path).markdown()


def test_an_audit_survives_its_record_and_an_older_one_has_none(tmp_path: Path) -> None:
    score = audited(record(), audit(), audit("mass")).scores[1]
    assert parse_value(Score, plain(score, tmp_path)) == score
    assert "audit" not in plain(record().scores[0], tmp_path)
    assert score.audit is not None
    assert (score.audit.passed, score.audit.failed) == (False, ("mass",))
    assert ScoreAudit((), 0, {}, 0.0).passed is False
