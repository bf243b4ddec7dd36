"""Each format read back by an independent reader."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_factory import failed, label, labelled, record, spec, timed

from harness.core.hashing import without_digest
from harness.report import FORMATS, Table, build, write
from harness.report.formats import github, latex
from harness.report.kernels import kernel_section
from harness.report.row import JSON_KEYS
from harness.report.rows import recipe_id
from harness.results import published
from harness.results.store import Store

PUBLISHED = published.load(published.find())
NASTY = r"a|b \ {x}_y & 50% $z ~ ^ # <i> `c` *d* [e](f) -- ''"


@pytest.fixture
def table() -> Table:
    nasty = spec(label=label(title=NASTY, entry="nasty"), seed=5)
    runs = [record(1.2345678901234567), record(1.5, spec_=nasty), failed(spec_=spec(seed=9), error="a\nb | c")]
    return build(labelled(*runs), published.load(published.find()))


def unescape_latex(text: str) -> str:
    """What TeX would set, by its own rules: `{}` sets nothing."""
    names = {"textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<", "textgreater": ">"}
    text = re.sub(r"\\(textbar){}", "|", text)
    text = re.sub(r"\\`{}", "\N{GRAVE ACCENT}", text)
    text = text.replace(r"\textemdash{}", "\N{EM DASH}")
    text = re.sub(r"\\(text[a-z]+){}", lambda match: names[match[1]].replace("\\", "\0"), text)
    text = text.replace(r"\(\pm\)", "±").replace("-{}", "-").replace("'{}", "'").replace(",{}", ",")
    return re.sub(r"\\([{}&%$#_])", r"\1", text).replace("\0", "\\")


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("ab1 \\{}&%$#_~^<>|-',`*[]()±—"), max_size=12))
def test_latex_sets_the_text_unchanged(text: str) -> None:
    escaped = latex.escape(text)
    assert unescape_latex(escaped) == " ".join(text.split())
    assert not re.search(r"(?<!\\)[&%$#_~^<>|]", escaped.replace(r"\\", ""))


def tables_of(text: str) -> list[list[list[str]]]:
    """Cells of every table, headings first, as they are set; a title over all columns is a line of one cell."""
    bodies = re.findall(r"\\begin{longtable}{[^\n]*}\n(.*?)\\bottomrule\n\\end{longtable}", text, re.DOTALL)
    lines = [[line for line in body.splitlines() if line.endswith(r"\\")] for body in bodies]
    return [[[unescape_latex(cell) for cell in re.split(r" (?<!\\)& ", line[:-3])] for line in body] for body in lines]


def test_latex_has_a_table_per_dataset_metric_and_split(table: Table) -> None:
    groups = table.groups()
    for rows, [title, headings, *body] in zip(groups, tables_of(write(table, "latex")), strict=True):
        assert table.heading(rows) in title[0]
        assert headings == ["#", "Model", "Profile", "Value", "95 %", "Params", "Source"]
        for row, cells in zip(rows, body, strict=True):
            assert cells[0] == ("—" if row.rank is None else str(row.rank))
            assert cells[1] == " ".join(row.model.split())
            assert cells[3] == (row.status if row.value is None else f"{row.value:.{row.decimals}f}")
            if row.ci95_low is not None:
                assert cells[4].startswith(f"{row.ci95_low:.{row.decimals}f} to {row.ci95_high:.{row.decimals}f}")


def test_latex_is_balanced_whatever_a_title_says(table: Table) -> None:
    text = write(table, "latex")
    assert re.findall(r"\\(begin|end){longtable}", text) == ["begin", "end"] * len(table.groups())
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(f"\\{rule}\n") == len(table.groups())
    plain = re.sub(r"\\[{}%&$#_]|\\\\$", "", text, flags=re.MULTILINE)
    depth = 0
    for brace in re.findall("[{}]", plain):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles_with_hostile_titles(table: Table, tmp_path: Path) -> None:
    has_booktabs = subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, check=False).returncode == 0
    # Without the package, rules of the same names.
    rules = "".join(f"\\def\\{name}rule{{\\hline}}" for name in ("top", "mid", "bottom"))
    load = r"\usepackage{booktabs}" if has_booktabs else rules
    document = [r"\documentclass{article}", r"\usepackage{longtable}", load, r"\begin{document}", write(table, "latex")]
    (tmp_path / "t.tex").write_text("\n".join([*document, r"\end{document}"]), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout[-1500:]
    assert (tmp_path / "t.pdf").read_bytes().startswith(b"%PDF")


def test_latex_shows_exactly_the_chosen_columns_in_one_table(table: Table) -> None:
    [[headings, *body]] = tables_of(write(table, "latex", ["Value", "model", "cpu_percent"]))
    assert headings == ["Value", "Model", "CPU %"]
    assert [line[1] for line in body] == [" ".join(row.model.split()) for row in table.rows]


def test_latex_takes_a_bracket_or_a_star_that_begins_a_line_for_text() -> None:
    """Right after a line's end LaTeX would read them as an argument of that end."""
    row = build(labelled(record()), ()).rows[0]
    table = Table(tuple(replace(row, model=model) for model in ("[a] b", "*c", "d")))
    text = write(table, "latex", ["model", "value"])
    assert [line.split(" & ")[0] for line in text.splitlines() if "1.5" in line] == ["{}[a] b", "{}*c", "d"]


@pytest.mark.parametrize("fmt", FORMATS)
def test_no_table_is_too_small_for_a_format(fmt: str) -> None:
    assert write(Table(()), fmt).endswith("\n")


def test_github_has_a_cell_per_column(table: Table) -> None:
    lines = write(table, "github").splitlines()
    assert len(lines) == len(table.rows) + 2
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {20}
    assert any(re.search(r"\| +failed \|", line) and r"a b \| c" in line for line in lines)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=20))
def test_github_shows_the_text_unchanged(text: str) -> None:
    shown = github.escape(text).replace("&lt;", "<").replace("&amp;", "&")
    assert re.sub(r"\\([\\|`*\[\]~_])", r"\1", shown) == " ".join(text.split())


def test_json_is_a_list_of_rows_with_full_precision(table: Table) -> None:
    rows = json.loads(write(table, "json"))
    assert len(rows) == len(table.rows)
    assert {tuple(row) for row in rows} == {JSON_KEYS}
    assert 1.2345678901234567 in [row["value"] for row in rows]
    lost = [row for row in rows if row["status"] == "failed"]
    assert [(row["value"], row["error"]) for row in lost] == [(None, "a\nb | c")] * 2
    assert {row["status"] for row in rows} == {"finished", "failed", "published"}
    ours = next(row for row in rows if row["status"] == "finished" and row["split"] == "test")
    assert (ours["dataset"], ours["metric"], ours["published"]) == ("ptb-char", "bpc", 1.175)
    assert (ours["dtype"], ours["kernel"], ours["device_kind"]) == ("float32", "auto", "cpu")
    assert (ours["seed_list"], ours["recipe_id"]) == ([1], recipe_id(spec().model, spec().recipe))


def test_csv_reads_back(table: Table) -> None:
    rows = list(csv.DictReader(io.StringIO(write(table, "csv"))))
    assert len(rows) == len(table.rows)
    for row, source in zip(rows, table.rows, strict=True):
        assert row["value"] == (source.status if source.value is None else repr(source.value))
        assert row["params"] == ("" if source.params is None else str(source.params))
        assert row["run_ids"].split() == list(source.run_ids)
        # A negative number is no formula.
        assert row["difference"] == ("" if source.difference is None else repr(source.difference))


# What a terminal obeys, a spreadsheet runs, or a document cannot hold.
HOSTILE = st.text(st.sampled_from("a1 =+-@\t\n\r\0\a\x1b\x7f\x9b\u202e\u2028\ud800\uff1d|$"), min_size=1, max_size=8)


@pytest.fixture
def templates(tmp_path: Path) -> dict[Path, str]:
    """The files of two runs with TEXT for every name and reason, one of them failed."""
    named = label(title="TEXT", task="TEXT", entry="TEXT", profile="TEXT", suite="TEXT")
    timings = [timed(status="failed", error="TEXT", case="TEXT")]
    machine = {"device_name": "TEXT", "fingerprint": "TEXT"}
    Store(tmp_path).write(record(1.5, spec_=spec(label=named), machine=machine, timings=timings))
    Store(tmp_path).write(failed(error="TEXT", spec_=spec(label=named, seed=2)))
    # Without the digest, as older versions wrote them.
    paths = tmp_path.glob("runs/*/*.json")
    return {path: json.dumps(without_digest(json.loads(path.read_text())), indent=1) for path in paths}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=HOSTILE)
def test_no_text_of_a_file_puts_a_control_character_or_a_formula_into_a_table(
    templates: dict[Path, str], text: str
) -> None:
    for path, content in templates.items():
        path.write_text(content.replace("TEXT", json.dumps(text)[1:-1]))
    records = Store(path.parents[2]).records()
    table = build(records, PUBLISHED)
    assert len([row for row in table.rows if row.run_ids]) == 4
    for written in (*(write(table, fmt) for fmt in FORMATS), str(kernel_section(made for made, _ in records))):
        assert not {unicodedata.category(c) for c in set(written) - {"\n"}} & {"Cc", "Cs", "Zl"}
        assert "\u202e" not in written
    rows = list(csv.DictReader(io.StringIO(write(table, "csv"))))
    assert not [cell for row in rows for cell in row.values() if re.match(r"\s*([=+@\uff1d]|-(?![0-9.]+$))", cell)]


def test_html_shows_the_text_unchanged(table: Table) -> None:
    cells: list[str] = []
    parser = HTMLParser()
    parser.handle_data = cells.append  # type: ignore[method-assign]
    parser.feed(write(table, "html", ["Model", "Value"]))
    texts = [cell for cell in cells if cell.strip()]
    assert texts[:2] == ["Model", "Value"]
    assert texts[2::2] == [" ".join(row.model.split()) for row in table.rows]


def test_the_frame_has_numbers_and_goes_through_parquet(table: Table, tmp_path: Path) -> None:
    frame = table.frame()
    assert tuple(frame.columns) == JSON_KEYS
    assert frame["value"].dtype == "Float64"
    assert frame["value"].dropna().tolist() == [row.value for row in table.rows if row.value is not None]
    assert frame["params"].dtype == "Int64"
    frame.to_parquet(tmp_path / "a.parquet")
    assert pd.read_parquet(tmp_path / "a.parquet").equals(frame)
