"""The page of the project's own records in a browser: it renders, sorts and filters, and shows the records' numbers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.report import read_leaderboard
from harness.report.page import site
from harness.report.page.content import gather
from harness.system.source import data_folder

sync_api: Any = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
RESULTS = data_folder("results")


# Three runs have a chart of every kind.
FEW = ("ptb-char-awd-lstm-s1-275b6a3d28", "ptb-char-qrnn-s1-e9ebfb6e14", "ptb-char-ngram-s1-18feb08ed8")


@pytest.fixture(scope="module", params=["few", pytest.param("all", marks=pytest.mark.slow)])
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's own records: a few, or all of them and its benchmarks of kernels."""
    folder = tmp_path_factory.mktemp("results")
    if request.param == "all":
        shutil.copytree(RESULTS / "bench", folder / "bench")
    for run in (RESULTS / "runs").iterdir():
        if request.param == "all" or run.name in FEW:
            shutil.copytree(run, folder / "runs" / run.name)
    return folder


@pytest.fixture(scope="module")
def page(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The page, opened from disk, with what the browser said of it in `problems`."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    built = site.build(results, tmp_path_factory.mktemp("page"))
    assert built.num_bytes < 3e6
    with sync_api.sync_playwright() as playwright:
        profile = tmp_path_factory.mktemp("profile")
        context = playwright.chromium.launch_persistent_context(profile, executable_path=CHROMIUM, args=FLAGS)
        context.set_default_timeout(120_000)
        opened = context.new_page()
        opened.problems = []
        opened.on("console", lambda message: opened.problems.append(message.text))
        opened.on("pageerror", lambda error: opened.problems.append(str(error)))
        opened.goto(built.index.as_uri())
        yield opened
        context.close()


@pytest.mark.timeout(600)
def test_every_view_renders_with_the_numbers_of_the_records(page: Any, results: Path) -> None:
    read = read_leaderboard(results)
    found = gather(read)
    # What the browser shows, table by table.
    shown = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('.board')].map((board) => [
             board.id,
             [...board.querySelectorAll('tbody tr')].map((row) => [...row.cells].map((cell) => cell.dataset.v)),
           ]))"""
    )
    rows = json.loads(read.text("json"))
    assert sum(map(len, shown.values())) == len(rows)
    flat = [cells for each in found.boards for cells in shown[each.key]]
    for cells, row, line in zip(flat, rows, (line for each in found.boards for line in each.lines), strict=True):
        headings = [cell.heading for cell in line.cells]
        at = headings.index("Value")
        assert (None if cells[at] is None else float(cells[at])) == row["value"]
    for view, _ in site.VIEWS:
        assert page.locator(f"#{view} h2").count() == 1
        assert page.locator(f"#{view}").bounding_box()["height"] > 50
    # A chart of each kind is visible and drawn.
    for chart in ("leaderboards", "curves", "costs", "kernels", "pairs"):
        assert page.locator(f"#{chart} .drawn:visible").first.bounding_box()["width"] > 300

    # Sorting: by value, up and down, with the numbers in order.
    board = max(found.boards, key=lambda each: len(each.lines))
    at = [heading for heading, _ in board.columns].index("Value")
    for order in ("ascending", "descending"):
        page.locator(f"#{board.key} th button").nth(at).click()
        assert page.locator(f"#{board.key} th").nth(at).get_attribute("aria-sort") == order
        values = page.eval_on_selector_all(
            f"#{board.key} tbody tr",
            f"rows => rows.map((row) => row.cells[{at}].dataset.v).filter(Boolean).map(Number)",
        )
        assert values == sorted(values, reverse=order == "descending")
        assert len(values) > 5

    # Filtering: by dataset, by kind, by words.
    page.select_option("#dataset", board.dataset)
    page.check("#ours")
    page.fill("#find", "qrnn")
    wanted = sum(
        each.dataset == board.dataset and line.kind == "ours" and "qrnn" in " ".join(c.text for c in line.cells).lower()
        for each in found.boards
        for line in each.lines
    )
    assert page.locator(".board tbody tr:visible").count() == wanted > 0

    # Another target: the table says what it took, and the line moves.
    panel = found.panels[0]
    target = max(value for curve in panel.curves for value in curve.values)
    line = page.locator(f"#{panel.key} .view:visible .target_marks line")
    before = line.get_attribute("transform")
    page.fill(f"#{panel.key} .target", str(target))
    assert line.get_attribute("transform") != before
    texts = page.locator(f"#{panel.key} .targets tbody tr td:nth-child(4)").all_inner_texts()
    places = [curve.reached(target, panel.metric) for curve in panel.curves]
    assert None not in places
    assert texts == [
        f"{curve.axes['tokens'][place or 0]:,.0f}" for curve, place in zip(panel.curves, places, strict=True)
    ]
    page.check(f"#{panel.key} input[value=seconds]")
    assert page.locator(f"#{panel.key} .view:visible").get_attribute("data-view") == "seconds"
    assert page.problems == []

    # A run's page, by its link.
    page.locator("#runs tbody a").first.click()
    page.wait_for_selector("h2:has-text('Run it again')")
    assert page.locator("table").count() > 1
    assert page.problems == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.timeout(600)
def test_axe_finds_no_serious_fault(page: Any, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    script = Path(axe.__path__[0], "axe.min.js").read_text(encoding="utf-8")
    page.emulate_media(color_scheme=scheme)
    index = page.url if page.url.endswith("index.html") else page.url.rpartition("/runs/")[0] + "/index.html"
    found = []
    for url in (index, None):
        page.goto(url) if url else page.locator("#runs tbody a").first.click()
        # Axe sees what is folded in or out of view only if it is rendered.
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        page.evaluate("for (const each of document.querySelectorAll('*')) each.style.contentVisibility = 'visible'")
        page.evaluate(script)
        result = page.evaluate("axe.run()")
        # Contrast was judged: it is what a change of style breaks.
        assert "color-contrast" in {each["id"] for each in result["passes"]}
        found += [each["id"] for each in result["violations"] if each["impact"] in ("serious", "critical")]
    assert found == []
