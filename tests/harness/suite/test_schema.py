"""The JSON Schema of suites: up to date, and in agreement with the loader."""

from __future__ import annotations

import re
from typing import Any

import pytest

import lm_models
from harness.suite.schema import PATH, schema, text
from harness.suite.yaml_reader import plain, read_yaml

SUITES = sorted(PATH.parent.glob("*.yaml"))


def test_the_committed_schema_is_current() -> None:
    assert PATH.read_text(encoding="utf-8") == text(), "run: python -m harness.suite.schema"


def test_every_builder_is_a_branch_of_the_model_union() -> None:
    definitions = schema()["$defs"]
    *ours, outside = definitions["EntryBlock"]["properties"]["model"]["anyOf"]
    assert outside["properties"]["builder"]["pattern"] == ":", "the import path of a model from outside"
    references = [each["$ref"] for each in ours]
    branches = [definitions[reference.removeprefix("#/$defs/")] for reference in references]
    assert [each["properties"]["builder"]["const"] for each in branches] == list(lm_models.BUILDERS)
    assert all(each["additionalProperties"] is False for each in branches)


def test_every_reference_is_defined() -> None:
    names = set(re.findall(r'"\$ref": "#/\$defs/([^"]+)"', text()))
    assert names
    assert names <= set(schema()["$defs"])


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_the_committed_suites_fit_the_schema(path: Any) -> None:
    assert flaws(plain(read_yaml(path)), schema()) == []


@pytest.mark.parametrize(
    ("change", "flaw"),
    [
        ({"metric": ["bpc"]}, "metric"),
        ({"metrics": ["bcp"]}, "metrics"),
        ({"dataset": "enwik9"}, "dataset"),
        ({"seeds": ["1"]}, "seeds"),
        ({"profiles": {"quick": {"entries": {"a": {"recipe": {"lrr": 1}}}}}}, "profiles"),
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(change: dict[str, Any], flaw: str) -> None:
    good = plain(read_yaml(PATH.parent / "enwik8.yaml"))
    assert any(flaw in each for each in flaws({**good, **change}, schema()))


KEYWORDS = {
    *("$schema", "$defs", "$ref", "title", "description", "default"),
    *("anyOf", "enum", "const", "type", "pattern"),
    *("properties", "required", "additionalProperties"),
    *("items", "prefixItems", "minItems", "maxItems"),
}


def flaws(  # noqa: C901
    value: Any, rule: dict[str, Any], at: str = "$", root: dict[str, Any] | None = None
) -> list[str]:
    """A small validator of the keywords the schema uses, independent of the library that wrote it."""
    root = root or rule
    assert set(rule) <= KEYWORDS, f"a keyword this check does not know: {set(rule) - KEYWORDS}"
    if "$ref" in rule:
        return flaws(value, root["$defs"][rule["$ref"].removeprefix("#/$defs/")], at, root)
    if "anyOf" in rule:
        tried = [flaws(value, each, at, root) for each in rule["anyOf"]]
        return [] if [] in tried else min(tried, key=len)
    if ("enum" in rule and value not in rule["enum"]) or ("const" in rule and value != rule["const"]):
        return [f"{at}: {value!r}"]
    types = {"object": dict, "array": list, "string": str, "integer": int, "number": int | float, "boolean": bool,
             "null": type(None)}  # fmt: skip
    kind = rule.get("type")
    if kind and (not isinstance(value, types[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return [f"{at}: not {kind}"]
    if not re.search(rule.get("pattern", ""), str(value)):
        return [f"{at}: not like {rule['pattern']}"]
    problems: list[str] = []
    if isinstance(value, dict):
        problems += [f"{at}: no {key}" for key in rule.get("required", []) if key not in value]
        for key, item in value.items():
            inner = rule.get("properties", {}).get(key, rule.get("additionalProperties", True))
            if inner is False:
                problems.append(f"{at}.{key}: unknown")
            elif inner is not True:
                problems += flaws(item, inner, f"{at}.{key}", root)
    if isinstance(value, list):
        if not rule.get("minItems", 0) <= len(value) <= rule.get("maxItems", len(value)):
            problems.append(f"{at}: {len(value)} items")
        rules = [*rule.get("prefixItems", []), *[rule.get("items", {})] * len(value)]
        for index, (item, inner) in enumerate(zip(value, rules, strict=False)):
            problems += flaws(item, inner, f"{at}[{index}]", root)
    return problems
