"""The gate's verdicts for other programs, read back by other parsers."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from harness.regression import formats
from harness.regression.check import CheckReport, CheckRow


def report() -> CheckReport:
    place = ("tiny", "full", "lstm", 1, "test", "bpc", "quality")
    return CheckReport((
        CheckRow(place, "regression", 'worse by more than the "tolerance" <&>', 1.5, 1.6, 0.01, "run-1"),
        CheckRow(("tiny", "full", "lstm", 1, "valid", "bpc", "quality"), "pass", "", 1.5, 1.5, 0.01, "run-1"),
        CheckRow(("tiny", "full", "qrnn", 1, "test", "bpc", "quality"), "not comparable", "no run", 1.5),
    ))  # fmt: skip


def test_junit_has_a_case_per_row_with_its_reason() -> None:
    suite = ElementTree.fromstring(formats.junit(report()))
    assert {key: suite.get(key) for key in ("tests", "failures", "errors")} == {
        "tests": "3", "failures": "1", "errors": "1",
    }  # fmt: skip
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == 'worse by more than the "tolerance" <&>'
    assert [case.get("name") for case in suite if len(case) == 0] == ["full lstm 1 valid bpc quality"]


def test_the_table_has_numbers_on_the_right() -> None:
    line = report().render().splitlines()[1]
    assert "".join("r" if cell.endswith(":") else "l" for cell in line.strip("|").split("|")) == "lllrlllrrrrll"


def test_json_holds_every_value() -> None:
    text = formats.as_json(CheckReport((*report().rows, CheckRow(report().rows[0].identity, "new", "größer"))))
    body = json.loads(text)
    assert text == json.dumps(body, indent=1, ensure_ascii=False) + "\n"
    assert "größer" in text
    assert body["exit_code"] == 1
    first = body["rows"][0]
    assert (first["entry"], first["baseline"], first["now"], first["verdict"]) == ("lstm", 1.5, 1.6, "regression")
    assert first["moved"] == 1.6 - 1.5


def test_every_format_names_a_record_that_cannot_be_read() -> None:
    damaged = CheckReport(report().rows, ("runs/x/record.json: is damaged",))
    assert damaged.exit_code == 1
    for write in formats.FORMATS.values():
        assert "runs/x/record.json: is damaged" in write(damaged)
    assert ElementTree.fromstring(formats.junit(damaged)).get("errors") == "2"


def test_github_begins_with_the_totals_and_holds_a_table() -> None:
    text = formats.github(report())
    assert text.splitlines()[0] == "### Gate: 1 regression, 1 not comparable, 1 pass"
    assert sum(line.startswith("|") for line in text.splitlines()) == 2 + 3
