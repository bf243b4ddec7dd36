"""LaTeX tabulars for a paper. Text in another script needs fonts that have it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from harness.config.evaluation import ADAPTIVE_MARKS
from harness.report.columns import (
    NOT_APPLICABLE,
    cells,
    device_text,
    named,
    params_text,
    profile_text,
    source_text,
    std_error_text,
    value_text,
)
from harness.report.paper import FULL_PROFILE
from harness.report.row import FINISHED, NO_PROTOCOL, Row
from harness.report.table import Table

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


NEEDS = r"% needs \usepackage{booktabs} and \usepackage{array}"
BETWEEN = "\n\\bigskip\n\n"
GAP = r"@{\hspace{7pt}}"

# Texts of any length, in lines. With the columns of numbers they fill \linewidth of an article in \small.
WRAPPED = r">{\raggedright\arraybackslash}p{%.2f\linewidth}"
MODEL, SOURCE = WRAPPED % 0.32, WRAPPED % 0.23

# Rows of one tabular: LaTeX does not break it across pages. A longer ranking continues in another one.
PAGE = 30

# Letters that fit into the narrower of the wrapped columns; longer words may be broken.
LONGEST_WORD = 16
PIECE = re.compile(rf"\w{{1,{LONGEST_WORD}}}\W?|\W")


def write(table: Table, names: Sequence[str] | None = None) -> str:
    """A tabular per dataset, metric and split, as wide as a line; with `names`, one tabular of those columns."""
    if names is not None:
        columns = named(names)
        spec = "".join("r" if column.align == "right" else "l" for column in columns)
        body = [[escape(cell) for cell in line] for line in cells(table.rows, columns)]
        return f"{NEEDS}\n" + _tabular(spec, [escape(column.heading) for column in columns], body)
    # Slices, because itertools.batched came with Python 3.12.
    parts = [
        _ranking(table.heading(rows), rows[start : start + PAGE])
        for rows in table.groups()
        for start in range(0, len(rows), PAGE)
    ]
    return f"{NEEDS}\n" + (BETWEEN.join(parts) or "% no rows\n")


def _ranking(heading: str, rows: Sequence[Row]) -> str:
    """The columns that a paper shows. What else distinguishes rows is in parentheses after the model."""
    devices = {device_text(row) for row in rows if row.run_ids}
    body = [
        [
            escape(NOT_APPLICABLE if row.rank is None else str(row.rank)),
            _broken(_model(row, with_device=len(devices) > 1)),
            # The mark of a value beyond the limit is too wide for this column; `_model` adds it.
            escape(value_text(replace(row, beyond_limit=False))),
            escape(std_error_text(row)),
            escape(params_text(row)),
            _broken(row.code if row.status == FINISHED and row.code else source_text(row)),
        ]
        for row in rows
    ]
    spec = "@{}" + GAP.join(("r", MODEL, "r", "r", "r", SOURCE)) + "@{}"
    title = rf"\multicolumn{{6}}{{@{{}}p{{\linewidth}}@{{}}}}{{\textbf{{{_broken(heading)}}}}} \\"
    headings = [escape(name) for name in ("#", "Model", "Value", "Std. error", "Params", "Source or code")]
    return _tabular(spec, headings, body, title)


def _model(row: Row, *, with_device: bool) -> str:
    notes = []
    if row.run_ids:
        # A reader assumes the suite's full recipe.
        profile = profile_text(row)
        notes += [] if profile == FULL_PROFILE else [profile]
        notes += [device_text(row)] if with_device else []
    if row.seed_std is not None:
        notes.append(f"{row.seeds} seeds, deviation {row.seed_std:.{row.decimals}f}")
    if row.beyond_limit:
        notes.append("beyond the limit")
    elif row.value is not None and row.rank is None and row.protocol not in (*NO_PROTOCOL, *ADAPTIVE_MARKS):
        notes.append(f"protocol {row.protocol}")
    return f"{row.model} ({'; '.join(notes)})" if notes else row.model


def _tabular(spec: str, headings: Sequence[str], body: Sequence[Sequence[str]], title: str | None = None) -> str:
    """A tabular of escaped cells between the rules of booktabs."""
    lines = [r"\noindent", rf"\begin{{tabular}}{{{spec}}}", r"\toprule"]
    lines += [title, r"\midrule"] if title is not None else []
    lines += [" & ".join(headings) + r" \\", r"\midrule"]
    for first, *rest in body:
        # After the end of a line, LaTeX would read a bracket or a star as its argument.
        lines.append(" & ".join(["{}" + first if first.startswith(("[", "*")) else first, *rest]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _broken(text: str) -> str:
    """Escaped text whose long words, such as checksums and paths, can be broken to fit a wrapped column."""
    words = []
    for word in text.split():
        pieces = PIECE.findall(word) if len(word) > LONGEST_WORD else [word]
        words.append(r"\allowbreak{}".join(map(escape, pieces)))
    return " ".join(words)


def escape(text: str) -> str:
    """Text that LaTeX sets unchanged: special characters, and pairs that its fonts would join."""
    return re.sub(r"--+|''+|,,+|.", lambda match: _piece(match[0]), " ".join(text.split()))


def _piece(text: str) -> str:
    return "{}".join(text) if len(text) > 1 else ESCAPES.get(text, text)
