"""The documentation site: its links, its reference of suites, and its navigation. `.ci/run` builds it with --strict."""

from __future__ import annotations

import json
import re
import runpy
from typing import Any

import pytest
from pages import ROOT

pytest.importorskip("mkdocs", reason="the extra docs is not installed")
SITE = runpy.run_path(str(ROOT / "docs/site_pages.py"))
SCHEMA = json.loads((ROOT / "suites/suite.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "source", "uri", "expected"),
    [
        ("[docs/costs.md](docs/costs.md#a)", "README.md", "index.md", "[Costs](costs.md#a)"),
        ("[what](docs/costs.md)", "README.md", "index.md", "[what](costs.md)"),
        ("[board](../results/LEADERBOARD.md)", "docs/costs.md", "costs.md", "[board](leaderboard.md)"),
        ("![a](docs/leaderboard.svg)", "README.md", "index.md", "![a](leaderboard.svg)"),
        ("[`Corpus`](../harness/core/interfaces.py)", "docs/costs.md", "costs.md", "`Corpus`"),
        ("[gone](../harness/gone.py)", "docs/costs.md", "costs.md", "[gone](../harness/gone.py)"),
        ("[x](https://arxiv.org/abs/1)", "docs/costs.md", "costs.md", "[x](https://arxiv.org/abs/1)"),
        ("[here](#part)", "docs/costs.md", "costs.md", "[here](#part)"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(text: str, source: str, uri: str, expected: str) -> None:
    assert SITE["to_pages"](text, source, uri, {"costs.md": "Costs"}) == expected


def test_the_reference_of_suites_has_every_key_and_its_links_lead_to_sections() -> None:
    page = SITE["suites_reference"](SCHEMA)
    rows = set(re.findall(r"^\| `(\w+)` \| \S.* \| \S.* \| \S.* \|$", page, re.M))
    assert rows == set(keys({name: block for name, block in SCHEMA.items() if name != "$defs"})) | {
        key for name, block in SCHEMA["$defs"].items() if not name.startswith("partial.") for key in keys(block)
    }
    assert "| `clip` | largest gradient norm over all parameters; 0 does not clip. | number | `0.0` |" in page
    anchors = {SITE["anchor"](heading) for heading in re.findall(r"^## (.+)$", page, re.M)}
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= anchors


def keys(value: Any) -> list[str]:
    if isinstance(value, list):
        return [key for each in value for key in keys(each)]
    if not isinstance(value, dict):
        return []
    own = list(value["properties"]) if isinstance(value.get("properties"), dict) else []
    return own + [key for each in value.values() for key in keys(each)]
