"""The verdicts of the quality gate for other programs: Markdown, JUnit XML and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from xml.etree import ElementTree

from harness.regression import verdict
from harness.regression.check import CheckReport, CheckRow


def github(report: CheckReport) -> str:
    """Markdown for a comment or the summary of a job: the totals first, then the table."""
    total = verdict.total(row.verdict for row in report.rows)
    problems = "".join(f"\n- {problem}" for problem in report.problems)
    return f"### Gate: {total}\n\n{report.render()}\n{problems}\n"


def junit(report: CheckReport) -> str:
    """A test case per row; a row that cannot be compared is an error."""
    suite = ElementTree.Element("testsuite", name="harness check")
    elements = {"regression": "failure", "not comparable": "error"}
    for row in report.rows:
        case = ElementTree.SubElement(suite, "testcase", classname=row.identity[0], name=_name(row))
        if row.verdict in elements:
            ElementTree.SubElement(case, elements[row.verdict], message=row.reason)
    for problem in report.problems:
        case = ElementTree.SubElement(suite, "testcase", classname="results", name="every record can be read")
        ElementTree.SubElement(case, "error", message=problem)
    suite.set("tests", str(len(suite)))
    for element in elements.values():
        suite.set(f"{element}s", str(len(suite.findall(f"testcase/{element}"))))
    ElementTree.indent(suite)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(suite, encoding="unicode")}\n'


def as_json(report: CheckReport) -> str:
    """The exit status, and every row with its values and reason."""
    keys = ("suite", "profile", "entry", "seed", "split", "metric", "kind")
    rows: list[dict[str, object]] = [
        dict[str, object](zip(keys, row.identity, strict=True))
        | {"baseline": row.expected, "now": row.found, "moved": row.moved, "tolerance": row.tolerance}
        | {"verdict": row.verdict, "reason": row.reason, "run_id": row.run_id, "variant": row.variant}
        for row in report.rows
    ]
    return (
        json.dumps(
            {"exit_code": report.exit_code, "rows": rows, "problems": report.problems}, indent=1, ensure_ascii=False
        )
        + "\n"
    )


FORMATS: dict[str, Callable[[CheckReport], str]] = {"github": github, "junit": junit, "json": as_json}


def _name(row: CheckRow) -> str:
    return " ".join(str(part) for part in (*row.identity[1:], *row.variant))
