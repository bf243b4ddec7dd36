"""JSON Schema of a suite file, generated from the types that check it: `python -m harness.suite.schema`."""

from __future__ import annotations

import json
import re
from inspect import cleandoc
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaValue

import lm_kernels
import lm_models
from harness import data
from harness.core.config.space import Parameter
from harness.core.metrics import METRICS
from harness.suite.blocks import SuiteBlock
from harness.suite.merge import NOT_IN_A_PROFILE
from harness.system.files import write_atomic
from harness.system.source import data_folder

PATH = data_folder("suites") / "suite.schema.json"


def schema() -> JsonSchemaValue:
    """JSON Schema (2020-12) for editors: keys, types, and every registered name.

    Rules across keys (sums, orders, keys that exclude each other) are checked by `load` only.
    """
    definitions: dict[str, JsonSchemaValue] = {}
    root = _take(SuiteBlock, definitions)
    entry = definitions["EntryBlock"]["properties"]
    # The settings of a model from outside are known only where it can be imported.
    outside = {
        "type": "object",
        "properties": {"builder": {"type": "string", "pattern": ":", "description": "an import path"}},
        "required": ["builder"],
    }
    entry["model"] = {
        "description": entry["model"]["description"],
        "anyOf": [*(_model(builder, definitions) for builder in lm_models.BUILDERS), outside],
    }
    entry["space"] = {**entry["space"], **_take(dict[str, Parameter], definitions)}
    backends = sorted({name for table in lm_kernels.KERNELS.values() for name in table})
    entry["kernel"] = {**entry["kernel"], "enum": ["auto", *backends]}
    names = {"enum": list(data.DATASETS), "type": "string"}
    registered = _take(data.Registered, definitions)
    registered["properties"]["name"] |= names
    blocks = {config.__name__: _take(config, definitions) for config in data.KINDS.values()}
    about = root["properties"]["dataset"]["description"]
    root["properties"]["dataset"] = {"description": about, "anyOf": [names, registered, *blocks.values()]}
    root["properties"]["metrics"]["items"] = {"enum": list(METRICS), "type": "string"}
    root["properties"]["kernels"]["items"] = {"enum": list(lm_kernels.KERNELS), "type": "string"}
    root["properties"]["profiles"] = {
        "description": "named variants of this suite, merged into it; a null entry drops that entry.",
        "type": "object",
        # Built before `profiles` is set on the root, so a profile has no profiles of its own.
        "additionalProperties": _profile(root, definitions),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "lm-harness suite",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def text() -> str:
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _take(type_: Any, definitions: dict[str, JsonSchemaValue]) -> JsonSchemaValue:
    """The schema of one type; its definitions move to `definitions`."""
    taken: JsonSchemaValue = TypeAdapter(type_).json_schema(mode="validation")
    inner = taken.pop("$defs", {})
    for definition in inner.values():
        _describe(definition)
    definitions.update(inner)
    taken.pop("title", None)
    _describe(taken)
    for base in type_.__mro__[1:]:
        _describe(taken, cleandoc(base.__doc__ or ""))
    return taken


def _describe(definition: JsonSchemaValue, docstring: str | None = None) -> None:
    """Move the section `Attributes:` of a class into the descriptions of its keys, where editors show it.

    Args:
        definition: the schema of the class.
        docstring: of a class that it inherits keys from; None for its own.
    """
    text, _, section = (docstring or definition.get("description", "")).partition("Attributes:\n")
    if docstring is None and section:
        definition["description"] = text.strip()
    for names, meaning in re.findall(r"^ *([a-z_, ]+): (.+(?:\n {8,}.+)*)$", section, re.M):
        for name in names.split(", "):
            if name in definition.get("properties", {}):
                definition["properties"][name].setdefault("description", " ".join(meaning.split()))


def _model(builder: str, definitions: dict[str, JsonSchemaValue]) -> JsonSchemaValue:
    model = _take(lm_models.config_class(builder), definitions)
    model["properties"] = {
        "builder": {"const": builder, "type": "string", "description": "names the model"},
        **model["properties"],
    }
    model["required"] = ["builder", *model.get("required", [])]
    name = f"model.{builder}"
    definitions[name] = model
    return {"$ref": f"#/$defs/{name}"}


def _profile(root: JsonSchemaValue, definitions: dict[str, JsonSchemaValue]) -> JsonSchemaValue:
    """The suite with no key required, at any depth."""
    for name in list(definitions):
        definitions[f"partial.{name}"] = _partial(definitions[name])
    profile: JsonSchemaValue = _partial({key: value for key, value in root.items() if key != "description"})
    for key in NOT_IN_A_PROFILE:
        profile["properties"].pop(key, None)
    entries = profile["properties"]["entries"]
    entries["additionalProperties"] = {"anyOf": [entries["additionalProperties"], {"type": "null"}]}
    return profile


def _partial(value: Any) -> Any:
    """A copy without `required`, whose references point to partial definitions."""
    if isinstance(value, list):
        return [_partial(each) for each in value]
    if not isinstance(value, dict):
        return value
    # `required` is a list as a keyword, and a schema as the name of a property.
    copied = {key: _partial(each) for key, each in value.items() if key != "required" or isinstance(each, dict)}
    if "$ref" in copied:
        copied["$ref"] = copied["$ref"].replace("#/$defs/", "#/$defs/partial.")
    return copied


if __name__ == "__main__":
    write_atomic(PATH, text())
