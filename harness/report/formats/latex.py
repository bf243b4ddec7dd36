"""LaTeX tabulars for a paper. A text in another script needs the fonts for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from harness.config.evaluation import ADAPTIVE_MARKS
from harness.report.choice import named
from harness.report.columns import (
    NOT_APPLICABLE,
    cells,
    device_text,
    params_text,
    profile_text,
    source_text,
    std_error_text,
    value_text,
)
from harness.report.leaderboard import FULL_PROFILE
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

WRAPPED = r">{\raggedright\arraybackslash}p{%.2f\linewidth}"
MODEL, SOURCE = WRAPPED % 0.32, WRAPPED % 0.23
"""Texts of any length, in lines: with the numbers beside them they fill \\linewidth of an article in \\small."""

PAGE = 30
"""Rows of one tabular, which cannot break: those of a longer ranking go on under the same heading."""

LONGEST_WORD = 16
"""Letters that the narrowest of the wrapped columns holds; a longer word may be broken."""
PIECE = re.compile(rf"\w{{1,{LONGEST_WORD}}}\W?|\W")


def write(table: Table, names: Sequence[str] | None = None) -> str:
    """A tabular per dataset, metric and split, as wide as a line; with names a single one, of those columns alone."""
    if names is not None:
        columns = named(names)
        spec = "".join("r" if align == "right" else "l" for _, _, align in columns)
        body = [[escape(cell) for cell in line] for line in cells(table.rows, columns)]
        return f"{NEEDS}\n" + _tabular(spec, [escape(name) for name, _, _ in columns], body)
    parts = [_ranking(table.heading(rows), part) for rows in table.groups() for part in batched(rows, PAGE)]
    return f"{NEEDS}\n" + (BETWEEN.join(parts) or "% no rows\n")


def batched(rows: Sequence[Row], size: int) -> list[Sequence[Row]]:
    """Rows in order, at most `size` together; `itertools.batched` is not in every Python this runs on."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _ranking(heading: str, rows: Sequence[Row]) -> str:
    """What a paper shows of one ranking. What else tells rows apart stands in parentheses after the model."""
    devices = {device_text(row) for row in rows if row.run_ids}
    body = [
        [
            escape(NOT_APPLICABLE if row.rank is None else str(row.rank)),
            _broken(_model(row, with_device=len(devices) > 1)),
            # The mark of one beyond the limit is too wide here and stands with the model.
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
        # The suite's own full recipe is what a reader takes for granted.
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
    """Lines of cells that are escaped already, between booktabs' rules."""
    lines = [r"\noindent", rf"\begin{{tabular}}{{{spec}}}", r"\toprule"]
    lines += [title, r"\midrule"] if title is not None else []
    lines += [" & ".join(headings) + r" \\", r"\midrule"]
    for first, *rest in body:
        # Right after a line's end a bracket or a star would be read as its argument.
        lines.append(" & ".join(["{}" + first if first.startswith(("[", "*")) else first, *rest]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _broken(text: str) -> str:
    """Escaped text whose words fit a wrapped column: a checksum or a path in an error has nowhere else to break."""
    words = []
    for word in text.split():
        pieces = PIECE.findall(word) if len(word) > LONGEST_WORD else [word]
        words.append(r"\allowbreak{}".join(map(escape, pieces)))
    return " ".join(words)


def escape(text: str) -> str:
    """Text that LaTeX sets as it stands: special characters, and pairs that its fonts would join."""
    return re.sub(r"--+|''+|,,+|.", lambda found: _piece(found[0]), " ".join(text.split()))


def _piece(text: str) -> str:
    return "{}".join(text) if len(text) > 1 else ESCAPES.get(text, text)
