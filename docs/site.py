"""Hooks of the documentation site, see mkdocs.yml: pages from outside docs/, and links between all of them.

The pages in docs/ are written for GitHub: a link names a file of the repository. On the site, a link to a file that is
a page leads there, and one to any other file becomes its text.
"""

from __future__ import annotations

import ast
import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]

# file of the repository -> page of the site
COPIED = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "results/LEADERBOARD.md": "leaderboard.md",
}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
FENCED = re.compile(r"^```.*?^```$", re.M | re.S)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/, and leave out of the navigation what does not exist."""
    pages = {page: (ROOT / name).read_text(encoding="utf-8") for name, page in COPIED.items()}
    pages["suites.md"] = suites_reference(json.loads((ROOT / "suites/suite.schema.json").read_text(encoding="utf-8")))
    pages["api/harness.md"] = harness_page()
    pages["api/harness.api.md"] = api_page()
    for package in ("models/lm_models", "kernels/lm_kernels"):
        name = package.rpartition("/")[2]
        pages[f"api/{name}.md"] = package_page(name, ROOT / package / "__init__.py")
    pages["site.css"] = CSS
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    config.nav = kept(config.nav, files)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files of the repository into links to pages."""
    uri = page.file.src_uri
    source = next((name for name, copy in COPIED.items() if copy == uri), f"docs/{uri}")
    parts = FENCED.split(markdown)
    blocks = [*FENCED.findall(markdown), ""]
    return "".join(to_pages(part, source, uri) + block for part, block in zip(parts, blocks, strict=True))


def to_pages(text: str, source: str, uri: str) -> str:
    """Markdown whose links name pages.

    Args:
        text: Markdown without fenced blocks.
        source: the file that it was written for, from the top of the repository.
        uri: its page.
    """

    def replaced(match: re.Match[str]) -> str:
        image, label, target, anchor = match.group(1), match.group(2), match.group(3), match.group(4) or ""
        if "://" in target:
            return match.group()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        is_page = path in COPIED or path.startswith("docs/")
        if not is_page:
            # A file that does not exist stays a link, which --strict reports.
            return label if (ROOT / path).exists() else match.group()
        page = COPIED.get(path, path.removeprefix("docs/"))
        return f"{image}[{label}]({posixpath.relpath(page, posixpath.dirname(uri) or '.')}{anchor})"

    return LINK.sub(replaced, text)


def kept(nav: Any, files: Files) -> Any:
    """The navigation without pages that do not exist."""
    if isinstance(nav, str):
        return nav if files.get_file_from_path(nav) else None
    if isinstance(nav, dict):
        pairs = {key: kept(value, files) for key, value in nav.items()}
        return {key: value for key, value in pairs.items() if value} or None
    return [each for each in (kept(item, files) for item in nav) if each]


# --- suites ----------------------------------------------------------------------------------------------------------

OF_ENTRY = ("EntryBlock", "Recipe", "Schedule", "WindowSampling", "Validation", "Averaging", "Finetune", "Speed")
OF_EVALUATION = ("Evaluation", "Adaptive", "NeuralCache", "DynamicSgd", "DynamicRms")
OF_MODELS = ("Dropout", "ActivationDropout")
TITLES = {
    "EntryBlock": "An entry", "Recipe": "recipe", "Schedule": "recipe.schedule", "WindowSampling": "recipe.windows",
    "Validation": "recipe.validation", "Averaging": "recipe.averaging", "Finetune": "recipe.finetune", "Speed": "speed",
    "Evaluation": "evaluation", "Adaptive": "evaluation.adaptive", "NeuralCache": "evaluation.adaptive.neural_cache",
    "DynamicSgd": "evaluation.adaptive.dynamic_sgd", "DynamicRms": "evaluation.adaptive.dynamic_rms",
    "Dropout": "model.dropout of recurrent models", "ActivationDropout": "dropout",
}  # fmt: skip


def suites_reference(schema: dict[str, Any]) -> str:
    """A page of every key of a suite, from its JSON Schema.

    Args:
        schema: suites/suite.schema.json.
    """
    return ""
