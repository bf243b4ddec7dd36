"""Hooks of the documentation site, see mkdocs.yml: pages from outside docs/, and links between all of them.

The pages in docs/ are written for GitHub: a link names a file of the repository. On the site, a link to a file that is
a page leads there, and one to any other file becomes its text.
"""

from __future__ import annotations

import ast
import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
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
    pages["leaderboard.md"] = f'<div class="whole-cells" markdown>\n\n{pages["leaderboard.md"]}\n</div>\n'
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
    uri, titles = page.file.src_uri, dict(titles_of(config.nav))
    source = next((name for name, copy in COPIED.items() if copy == uri), f"docs/{uri}")
    parts = FENCED.split(markdown)
    blocks = [*FENCED.findall(markdown), ""]
    return "".join(to_pages(part, source, uri, titles) + block for part, block in zip(parts, blocks, strict=True))


def to_pages(text: str, source: str, uri: str, titles: Mapping[str, str]) -> str:
    """Markdown whose links name pages.

    Args:
        text: Markdown without fenced blocks.
        source: the file that it was written for, from the top of the repository.
        uri: its page.
        titles: page -> title; it replaces the name of a file as the text of a link.
    """

    def replaced(match: re.Match[str]) -> str:
        image, label, target, anchor = match.group(1), match.group(2), match.group(3), match.group(4) or ""
        if "://" in target:
            return match.group()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        is_page = path in COPIED or (path.startswith("docs/") and not path.endswith(".py"))
        if not is_page:
            # A file that does not exist stays a link, which --strict reports.
            return label if (ROOT / path).exists() else match.group()
        page = COPIED.get(path, path.removeprefix("docs/"))
        label = titles.get(page, label) if label in (target, path) else label
        return f"{image}[{label}]({posixpath.relpath(page, posixpath.dirname(uri) or '.')}{anchor})"

    return LINK.sub(replaced, text)


def titles_of(nav: Any) -> Iterator[tuple[str, str]]:
    """Pages of the navigation with their titles."""
    for each in nav:
        [(title, value)] = each.items()
        if isinstance(value, str):
            yield value, title
        else:
            yield from titles_of(value)


def kept(nav: Any, files: Files) -> Any:
    """The navigation without pages that do not exist."""
    if isinstance(nav, str):
        return nav if files.get_file_from_path(nav) else None
    if isinstance(nav, dict):
        pairs = {key: kept(value, files) for key, value in nav.items()}
        return {key: value for key, value in pairs.items() if value} or None
    return [each for each in (kept(item, files) for item in nav) if each]


# Sections of the reference: title, and the block of the schema.
SECTIONS = (
    ("`entries`: each model", "EntryBlock"),
    ("`recipe`", "Recipe"),
    ("`recipe.schedule`", "Schedule"),
    ("`recipe.windows`", "WindowSampling"),
    ("`recipe.validation`", "Validation"),
    ("`recipe.averaging`", "Averaging"),
    ("`recipe.finetune`", "Finetune"),
    ("`space`: the values of one key", "Parameter"),
    ("`speed`", "Speed"),
    ("`evaluation`", "Evaluation"),
    ("`evaluation.adaptive`", "Adaptive"),
    ("`adaptive.neural_cache`", "NeuralCache"),
    ("`adaptive.dynamic_sgd`", "DynamicSgd"),
    ("`adaptive.dynamic_rms`", "DynamicRms"),
    ("`dropout` of recurrent models", "Dropout"),
    ("`dropout` of a Transformer", "ActivationDropout"),
)
INTRODUCTION = """# Suites reference

A suite is one YAML file. Unknown keys are refused with the nearest known name. The first line
`# yaml-language-server: $schema=suite.schema.json` gives an editor completion. The schema is in `suites/`; this page is
generated from it.

"""


def suites_reference(schema: dict[str, Any]) -> str:
    """A page of every key of a suite, from its JSON Schema.

    Raises:
        ValueError: a block of the schema has no section.
    """
    blocks = {name: block for name, block in schema["$defs"].items() if not name.startswith("partial.")}
    models = [name for name in blocks if name.startswith("model.")]
    if missing := {*blocks} - {*models} - {name for _, name in SECTIONS}:
        raise ValueError(f"docs/site_pages.py: SECTIONS lacks {', '.join(sorted(missing))}")
    titles = {name: title for title, name in SECTIONS} | {name: f"`model`: {name.partition('.')[2]}" for name in models}
    text = [INTRODUCTION, "## The suite\n\n", section(schema, titles)]
    for number, each in enumerate(schema["properties"]["dataset"]["anyOf"][1:]):
        kind = each["properties"].get("kind", {})
        kinds = " or ".join(f"`{name}`" for name in kind.get("enum", [kind.get("const")]))
        text += [f"## `dataset`: {f'kind {kinds}' if number else 'a registered name'}\n\n", section(each, titles)]
    text += [f"## {titles[name]}\n\n{section(blocks[name], titles)}" for name in [*models, *(n for _, n in SECTIONS)]]
    return "".join(text)


def section(block: dict[str, Any], titles: dict[str, str]) -> str:
    """What a block is, and a table of its keys."""
    required = block.get("required", [])
    rows = [
        f"| `{key}` | {cell(each['description'])} | {kind_of(each, titles)} | {default_of(key, each, required)} |\n"
        for key, each in block["properties"].items()
    ]
    table = "| key | meaning | type | default |\n|---|---|---|---|\n" + "".join(rows)
    return f"{block.get('description', '')}\n\n{table}\n"


def kind_of(value: dict[str, Any], titles: dict[str, str]) -> str:
    """The type of a key in words, with links to other sections."""
    if "$ref" in value:
        title = titles[value["$ref"].rpartition("/")[2]]
        return f"[{title}](#{anchor(title)})"
    if "anyOf" in value:
        kinds = [kind_of(each, titles) for each in value["anyOf"] if each.get("type") != "null"]
        return "<br>".join(dict.fromkeys(kinds))
    if "enum" in value or "const" in value:
        return ", ".join(f"`{each}`" for each in value.get("enum", [value.get("const")]))
    if value.get("type") == "array":
        items = value["prefixItems"][0] if "prefixItems" in value else value["items"]
        return f"list of {kind_of(items, titles) if items else 'any values'}"
    if value.get("type") == "object" and isinstance(value.get("additionalProperties"), dict):
        inner = value["additionalProperties"]
        return f"name: {kind_of(inner, titles) if '$ref' in inner else 'keys of a suite'}"
    if "properties" in value:
        return "block"
    return {"string": "text", "integer": "whole number", "boolean": "`true`, `false`"}.get(value["type"], value["type"])


def default_of(key: str, value: dict[str, Any], required: list[str]) -> str:
    """The default of a key, as YAML."""
    if key in required:
        return "required"
    if "$ref" in value:
        return "that block's"
    default = value.get("default")
    return "none" if default is None else f"`{json.dumps(default)}`".replace('"', "")


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def anchor(title: str) -> str:
    """As GitHub and the site make it of a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def names_of(path: Path, variable: str) -> Any:
    """The value of a literal assignment in a module, which is not imported."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == variable:
            return ast.literal_eval(node.value)
    raise ValueError(f"{path} does not assign {variable}")


def harness_page() -> str:
    """The public names of `import harness`, each under the module that defines it."""
    path = ROOT / "harness/__init__.py"
    modules = names_of(path, "_MODULES")
    names = [name for name in names_of(path, "__all__") if not name.startswith("__")]
    rows = [f"| [`harness.{name}`][{modules[name]}.{name}] | `{modules[name]}` |" for name in names]
    own = [f"::: {modules[name]}.{name}" for name in names if not modules[name].startswith("harness.api.")]
    return "\n".join(
        ["# harness", "", docstring(path), "", "| name | defined in |", "|---|---|", *rows, "", "\n\n".join(own), ""]
    )


def api_page() -> str:
    """The modules of `harness.api`."""
    path = ROOT / "harness/api/__init__.py"
    parts = [f"## {name}\n\n::: harness.api.{name}\n    options: {{show_root_heading: false, heading_level: 3}}"
             for name in names_of(path, "__all__")]  # fmt: skip
    return "\n\n".join(["# harness.api", docstring(path), *parts, ""])


def package_page(name: str, path: Path) -> str:
    """The public names of a package: its own ones, and a line for each public module.

    Args:
        name: of the package.
        path: its `__init__.py`.
    """
    public = names_of(path, "__all__")
    modules = [each for each in public if (path.parent / each).is_dir() or (path.parent / f"{each}.py").is_file()]
    rows = []
    for module in modules:
        file = path.parent / module / "__init__.py"
        file = file if file.is_file() else path.parent / f"{module}.py"
        rows.append(f"| `{name}.{module}` | {docstring(file).partition(chr(10))[0]} |")
    table = ["| module | what it holds |\n|---|---|\n" + "\n".join(rows)] if rows else []
    own = [f"::: {name}.{each}" for each in public if each not in modules]
    return "\n\n".join([f"# {name}", docstring(path), *table, *own, ""])


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


# Keys and numbers stay whole: a table that is wider than its column scrolls. A figure in code fits.
CSS = """.md-grid { max-width: 80rem; }
.md-typeset pre > code { font-size: .68em; }
.md-typeset table:not([class]) { font-size: .62rem; }
.md-typeset table:not([class]) th { min-width: 0; padding: .5em .7em; }
.md-typeset table:not([class]) td { padding: .4em .7em; }
.md-typeset td code { word-break: normal; }
.md-typeset td:first-child code { white-space: nowrap; }
.md-typeset .whole-cells td { white-space: nowrap; }
"""
