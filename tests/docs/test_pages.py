"""What the pages refer to exists, and the picture in the README is current."""

from __future__ import annotations

import html
import re
import runpy

from pages import FENCE, ROOT

from harness.system import source

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)?(?:#([^)\s]+))?\)")
# Paths of the repository in code style; a name in capitals is a placeholder.
DOTTED = re.compile(r"`((?:harness|lm_models|lm_kernels)(?:\.\w+)+)(?:\(\))?`")
PATH = re.compile(r"`((?:harness|models|kernels|tests|suites|docs)/[a-z0-9_./-]+)`")


def test_links_lead_to_files_and_headings() -> None:
    for page in PAGES:
        for file, anchor in LINK.findall(page.read_text(encoding="utf-8")):
            if "://" in file:
                continue
            target = page.parent / file if file else page
            assert target.exists(), f"{page.name}: {file}"
            assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), f"{page.name}: {file}#{anchor}"


def test_named_paths_exist() -> None:
    for page in PAGES:
        if page.name != "CHANGELOG.md":
            for path in PATH.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
                assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_named_modules_and_their_parts_exist() -> None:
    for page in PAGES:
        for name in DOTTED.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
            first, *parts = name.split(".")
            path = next(folder / first for folder in source.FOLDERS if (folder / first).is_dir())
            while parts and (path / parts[0]).is_dir():
                path /= parts.pop(0)
            module = (
                path / f"{parts.pop(0)}.py" if parts and (path / f"{parts[0]}.py").exists() else path / "__init__.py"
            )
            text = module.read_text(encoding="utf-8")
            assert not parts or re.search(rf"^(def |class )?{parts[0]}\b|\"{parts[0]}\"", text, re.M), (
                f"{page.name}: {name}"
            )


def test_the_picture_shows_the_committed_records() -> None:
    picture = runpy.run_path(str(ROOT / "docs/picture.py"))
    drawn = html.unescape(re.sub(r"<[^>]+>", " ", picture["PATH"].read_text(encoding="utf-8"))).split()
    shown = picture["console"]().export_text().split()
    assert set(shown) <= set(drawn), "run python docs/picture.py"


def anchors(text: str) -> set[str]:
    """Anchors of headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
