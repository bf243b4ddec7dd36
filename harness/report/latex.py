"""A LaTeX tabular. Needs no package; a text in another script needs the fonts for it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.report.choice import named, usual
from harness.report.columns import cells
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
    "\N{MULTIPLICATION SIGN}": r"\(\times\)",
    "\N{NO-BREAK SPACE}": "~",
}


def write(table: Table, names: Sequence[str] | None = None) -> str:
    from tabulate import tabulate

    columns = usual(table.rows) if names is None else named(names)
    body = [[escape(cell) for cell in line] for line in cells(table.rows, columns)]
    return (
        tabulate(
            body,
            headers=[escape(name) for name, _, _ in columns],
            tablefmt="latex_raw",
            colalign=[align for _, _, align in columns] if body else None,
            disable_numparse=True,
        )
        + "\n"
    )


def escape(text: str) -> str:
    """Text that LaTeX sets as it stands: special characters, and pairs that its fonts would join."""
    return re.sub(r"--+|''+|,,+|.", lambda found: _piece(found[0]), " ".join(text.split()))


def _piece(text: str) -> str:
    return "{}".join(text) if len(text) > 1 else ESCAPES.get(text, text)
