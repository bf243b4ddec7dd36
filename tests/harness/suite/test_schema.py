"""The JSON Schema of suites: up to date, and in agreement with the loader."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

import lm_models
from harness.suite.schema import PATH, schema, text
from harness.suite.yaml_reader import plain, read_yaml

SUITES = sorted(PATH.parent.glob("*.yaml"))


@pytest.fixture(scope="module")
def validator() -> Any:
    kind = jsonschema.validators.validator_for(schema())
    kind.check_schema(schema())
    return kind(schema())


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
def test_the_committed_suites_fit_the_schema(path: Any, validator: Any) -> None:
    assert not list(validator.iter_errors(plain(read_yaml(path))))


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
def test_the_schema_refuses_what_the_loader_refuses(change: dict[str, Any], flaw: str, validator: Any) -> None:
    good = plain(read_yaml(PATH.parent / "enwik8.yaml"))
    with pytest.raises(jsonschema.ValidationError) as refused:
        validator.validate({**good, **change})
    assert flaw in f"{refused.value.json_path} {refused.value.message}"


def test_every_key_has_a_description_of_its_own() -> None:
    def keys(value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict):
            if isinstance(value.get("properties"), dict):
                yield from value["properties"].items()
            value = list(value.values())
        for each in value if isinstance(value, list) else []:
            yield from keys(each)

    described = [(name, each.get("description", "")) for name, each in keys(schema()) if isinstance(each, dict)]
    assert len(described) > 200
    assert [name for name, text in described if not text or "\n" in text or re.search(r"\. \w+: ", text)] == []
