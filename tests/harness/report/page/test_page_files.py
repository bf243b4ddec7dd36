"""The files of a page: nothing in a record runs or loads anything, and the same records give the same bytes."""

from __future__ import annotations

import json
import re
import sys
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest
from invoking import call
from page_records import write_records
from record_factory import failed, label, record, spec, timed

from harness.core.errors import HarnessError
from harness.report import read_leaderboard
from harness.report.page import content, drawing, render, site
from harness.report.page.charts import curves
from harness.results.store import Store
from harness.runs import Following, Reporter
from harness.suite import load, resolve
from harness.worker.job import RecordWritten, Resumed

SCRIPT = "<script>alert('x')</script>"
HOSTILE = (
    f"{SCRIPT}\"'`>&{{{{7*7}}}}{{% raw %}}\x1b[31m</title></style></svg><img src=x onerror=alert(1)>" + "long" * 2500
)


class Page(HTMLParser):
    """The elements of a page with their attributes, the texts, and what is in its script elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[tuple[str | None, str]] = []
        self.styles: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs).get("type"), ""))

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self.inside == "style":
            self.styles.append(data)
        else:
            self.texts.append(data)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    store = Store(folder / "results")
    curve = [{"step": 1, "tokens": 10, "valid_nll_nats": 1.2, "train_nll_nats": None, HOSTILE: HOSTILE}]
    trace = [{"times_s": float(s), "phase": "train", "cpu_percent": 50.0, "rss_bytes": 1e9} for s in range(3)]
    named = label(title=HOSTILE, entry="e", dataset=HOSTILE, published=None, suite="s", profile="p")
    timings = [timed(op=HOSTILE, backend=HOSTILE, case=HOSTILE, gb_per_s=None)]
    store.write(record(spec_=spec(label=named), curve=curve, traces=trace, timings=timings, model={"builder": HOSTILE}))
    store.write(record(None, spec_=spec(seed=2)))
    store.write(failed(error=HOSTILE, spec_=spec(seed=3, label=named), curve=[], machine={}, training=None))
    made = site.build(folder / "results", folder / "page", show_text=True)
    assert made.num_runs == 3
    return folder


def pages(built: Path) -> list[Path]:
    return [built / "page" / "index.html", *sorted((built / "page" / "runs").glob("*.html"))]


def test_hostile_text_is_text(built: Path) -> None:
    for path in pages(built):
        page = Page(path.read_text(encoding="utf-8"))
        assert not [tag for tag, _ in page.elements if tag in ("img", "iframe", "object", "link", "base")]
        assert not [
            name for _, attributes in page.elements for name in attributes if name.startswith("on") or name == "style"
        ]
        assert "\x1b" not in path.read_text(encoding="utf-8")
        for tag, attributes in page.elements:
            for name in ("href", "src", "xlink:href", "action"):
                target = attributes.get(name)
                assert target is None or re.match(r"#|runs/[\w.-]+\.html$|\.\./index\.html$", target), (tag, target)
    shown = " ".join(Page(pages(built)[0].read_text(encoding="utf-8")).texts)
    assert SCRIPT in shown
    assert "{{7*7}}" in shown
    assert max(map(len, re.findall("(?:long)+", shown))) < 1000


def test_the_policy_names_every_script_and_style_and_nothing_else(built: Path) -> None:
    for path in pages(built):
        page = Page(path.read_text(encoding="utf-8"))
        [policy] = [
            each["content"] for tag, each in page.elements if each.get("http-equiv") == "Content-Security-Policy"
        ]
        assert policy is not None
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert "http" not in policy
        for kind, text in page.scripts:
            if kind is None:
                assert hash_of(text) in policy
            else:
                assert kind == "application/json"
                json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        assert [hash_of(text) in policy for text in page.styles] == [True]


def hash_of(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def test_json_in_a_page_cannot_end_its_element() -> None:
    text = render.json_block({"a": "</script><!--&"})
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"a": "</script><!--&"}


def test_data_has_the_rows_of_the_table(built: Path) -> None:
    rows = json.loads((built / "page" / "data.json").read_text(encoding="utf-8"))
    assert rows == json.loads(read_leaderboard(built / "results").text("json"))


def built_runs(looks: Iterator[site.Built | None]) -> int:
    built = next(looks)
    assert built is not None
    return built.num_runs


def test_only_what_changed_is_written_again(tmp_path: Path) -> None:
    results, out = tmp_path / "results", tmp_path / "page"
    looks = site.watch(results, out, every_s=0.0)
    assert next(looks) is None  # waits for a record
    first = record()
    Store(results).write(first)
    assert built_runs(looks) == 1
    page = out / "runs" / f"{first.run_id}.html"
    before = page.stat().st_mtime_ns
    (out / "runs" / "stale.html").write_text("old", encoding="utf-8")
    second = record(spec_=spec(seed=2))
    Store(results).write(second)
    assert built_runs(looks) == 2
    assert page.stat().st_mtime_ns == before
    assert {path.stem for path in (out / "runs").iterdir()} == {first.run_id, second.run_id}


def test_a_figure_is_written_in_each_format_in_dark_ink(built: Path, tmp_path: Path) -> None:
    panel, *_ = content.gather(read_leaderboard(built / "results")).panels
    done = call("figure", f"{panel.key}-tokens", built / "results", "--out", tmp_path / "x.svg")
    assert (done.exit_code, done.stderr) == (0, "")
    text = (tmp_path / "x.svg").read_text(encoding="utf-8")
    assert text.startswith("<svg")
    assert "currentColor" not in text
    assert "<script" not in text
    spec_ = drawing.spec_of(curves.curves(panel, "tokens"))
    for ending, start in (("pdf", b"%PDF"), ("png", b"\x89PNG")):
        drawing.write(spec_, tmp_path / f"x.{ending}")
        assert (tmp_path / f"x.{ending}").read_bytes().startswith(start)
    with pytest.raises(HarnessError, match="ends in"):
        drawing.write(spec_, tmp_path / "x.gif")


def test_an_unknown_figure_is_refused_with_each_name_on_a_line(built: Path, tmp_path: Path) -> None:
    done = call("figure", "zzz", built / "results", "--out", tmp_path / "y.svg")
    *names, error = done.stderr.splitlines()
    assert done.exit_code == 2
    assert error.endswith(f"has no figure 'zzz'. It has {len(names)} figures.")


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    done = call("report", tmp_path, "--out", tmp_path / "page")
    assert (done.exit_code, done.stderr) == (2, "harness: the page needs altair: pip install 'lm-harness[report]'\n")


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    done = call("report", tmp_path, "--out", tmp_path / "page")
    assert done.exit_code == 2
    assert "holds no records" in done.stderr
    assert not (tmp_path / "page").exists()


RUN = """
suite: two
dataset: {kind: markov, order: 1, symbols: 4, train: 500, valid: 400, test: 600}
metrics: [bpc]
entries:
  oracle: {title: first oracle, model: {builder: markov-oracle, order: 1, symbols: 4, concentration: 0.2, seed: 0}}
"""


def test_a_run_leaves_a_page_of_its_records(tmp_path: Path) -> None:
    suite, results, out = tmp_path / "two.yaml", tmp_path / "results", tmp_path / "page"
    suite.write_text(RUN, encoding="utf-8")
    [run] = resolve(load(suite), device="cpu")
    # As if it had finished before: the command need not start a worker.
    Store(results).write(record(spec_=run))
    done = call("run", suite, "--results", results, "--report", out, "--device", "cpu", "--quiet")
    assert done.exit_code == 0
    assert done.stderr.splitlines()[-1] == f"page: {out / 'index.html'}"
    assert "first oracle" in (out / "runs" / f"{run.run_id}.html").read_text(encoding="utf-8")
    assert json.loads((out / "data.json").read_text(encoding="utf-8")) == json.loads(
        read_leaderboard(results).text("json")
    )


def test_a_page_is_built_after_each_record() -> None:
    built: list[str] = []
    reporter = Following(Reporter(), lambda: built.append("page"))
    reporter.event(Resumed(tokens=1, step=1, thread_counts=(1,)))
    assert built == []
    for _ in range(2):
        reporter.event(RecordWritten(status="finished", error=None))
    assert (len(built), reporter.num_records) == (2, 2)


def test_a_run_page_shows_its_trace_without_costs_and_names_only_what_is_in_it(tmp_path: Path) -> None:
    write_records(tmp_path / "results", 2)
    built_ = site.build(tmp_path / "results", tmp_path / "page")
    assert built_.num_runs == len(list((tmp_path / "page" / "runs").iterdir())) == 2
    for path in (tmp_path / "page" / "runs").iterdir():
        page = Page(path.read_text(encoding="utf-8"))
        keys = [each["class"] for tag, each in page.elements if tag == "li" and "key-" in (each.get("class") or "")]
        assert keys == ["key-validation", "key-training", "key-load", "key-train", "key-evaluate"]
