"""LaTeX tables for a paper. Text in another script needs fonts that have it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.report.columns import AUDIT, Column, cells, named
from harness.report.row import Row
from harness.report.table import Table, audit_notes

ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\`{}",
    "±": r"\(\pm\)",
    "—": r"\textemdash{}",
    "\N{EN DASH}": r"\textendash{}",
    "→": r"\(\rightarrow\)",
    "\N{MINUS SIGN}": r"\(-\)",
    "≤": r"\(\le\)",
    "≥": r"\(\ge\)",
    "\N{MULTIPLICATION SIGN}": r"\(\times\)",
    "\N{NO-BREAK SPACE}": "~",
}

NEEDS = r"% needs \usepackage{booktabs} and \usepackage{longtable}"
# What fits a line of an article. Texts of any length are wrapped.
USUAL = ("#", "Model", "Profile", "Value", "95 %", "Params", "Source")
WIDTHS = {"Model": 0.24, "Profile": 0.1, "Source": 0.16, "Audit": 0.1}


def write(table: Table, names: Sequence[str] | None = None) -> str:
    """A table per dataset, metric and split, as wide as a line; with `names`, one table of those columns."""
    if names is not None:
        parts = [_longtable(table.rows, named(names))]
    else:
        notes = audit_notes(table.rows)
        columns = named((*USUAL, AUDIT.heading) if notes else USUAL)
        parts = [_longtable(rows, columns, table.heading(rows)) for rows in table.groups()]
        parts += [escape(f"{heading}: {note}") for heading, note in notes]
    return "\n".join([NEEDS, *parts, ""])


def _longtable(rows: Sequence[Row], columns: Sequence[Column], title: str | None = None) -> str:
    """A table between the rules of booktabs that may continue on the next page."""
    spec = "".join(
        rf"p{{{WIDTHS[column.heading]}\linewidth}}" if title and column.heading in WIDTHS else column.align[0]
        for column in columns
    )
    lines = [rf"\begin{{longtable}}{{{spec}}}"]
    lines += [rf"\multicolumn{{{len(columns)}}}{{l}}{{\textbf{{{escape(title)}}}}} \\"] if title else []
    lines += [r"\toprule", _line([column.heading for column in columns]), r"\midrule", r"\endhead"]
    lines += [_line(line) for line in cells(rows, columns)]
    return "\n".join([*lines, r"\bottomrule", r"\end{longtable}"])


def _line(texts: Sequence[str]) -> str:
    text = " & ".join(map(escape, texts))
    # After the end of a line, LaTeX would read a bracket or a star as its argument.
    return ("{}" if text.startswith(("[", "*")) else "") + text + r" \\"


def escape(text: str) -> str:
    """Text that LaTeX sets unchanged: special characters, and pairs that its fonts would join."""
    return re.sub(r"--+|''+|,,+|.", lambda match: _piece(match[0]), " ".join(text.split()))


def _piece(text: str) -> str:
    return "{}".join(text) if len(text) > 1 else ESCAPES.get(text, text)
