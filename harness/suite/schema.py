"""The JSON Schema of a suite file, generated from the types that check it: `python -m harness.suite.schema`."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

import kernels
import models
from harness import data
from harness.core.metrics import METRICS
from harness.suite.merge import NOT_IN_A_PROFILE
from harness.suite.shape import SuiteBlock
from harness.system.source import ROOT

PATH = ROOT / "suites" / "suite.schema.json"


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) for editors: the shape, and every name a registration table knows.

    What needs more than a shape to see (sums, orders, pairs that exclude each other) is left to `harness.suite.load`.
    """
    definitions: dict[str, Any] = {}
    root = _take(SuiteBlock, definitions)
    entry = definitions["EntryBlock"]["properties"]
    entry["model"] = {"anyOf": [_model(builder, definitions) for builder in models.BUILDERS]}
    backends = sorted({name for table in kernels.KERNELS.values() for name in table})
    entry["kernel"] = {**entry["kernel"], "enum": ["auto", *backends]}
    names = {"enum": list(data.DATASETS), "type": "string"}
    registered = _take(data.Registered, definitions)
    registered["properties"]["name"] = names
    blocks = {config.__name__: _take(config, definitions) for config in data.KINDS.values()}
    root["properties"]["dataset"] = {"anyOf": [names, registered, *blocks.values()]}
    root["properties"]["metrics"]["items"] = {"enum": list(METRICS), "type": "string"}
    root["properties"]["kernels"]["items"] = {"enum": list(kernels.KERNELS), "type": "string"}
    root["properties"]["profiles"] = {
        "description": "Named variants of this suite, merged over it; a null entry drops that entry.",
        "type": "object",
        "additionalProperties": _profile(root, definitions),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "lm-harness suite",
        **{key: value for key, value in root.items() if key != "title"},
        "$defs": dict(sorted(definitions.items())),
    }


def text() -> str:
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _take(type_: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of one type; its own definitions move to the shared ones."""
    made: dict[str, Any] = TypeAdapter(type_).json_schema(mode="validation")
    definitions.update(made.pop("$defs", {}))
    made.pop("title", None)
    return made


def _model(builder: str, definitions: dict[str, Any]) -> dict[str, Any]:
    made = _take(models.config_class(builder), definitions)
    made["properties"] = {"builder": {"const": builder, "type": "string"}, **made["properties"]}
    made["required"] = ["builder", *made.get("required", [])]
    name = f"model.{builder}"
    definitions[name] = made
    return {"$ref": f"#/$defs/{name}"}


def _profile(root: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The suite again, with nothing required and any block given in part."""
    for name in list(definitions):
        definitions[f"partial.{name}"] = _partial(definitions[name])
    made: dict[str, Any] = _partial({key: value for key, value in root.items() if key not in ("title", "description")})
    for key in NOT_IN_A_PROFILE:
        made["properties"].pop(key, None)
    entries = made["properties"]["entries"]
    entries["additionalProperties"] = {"anyOf": [entries["additionalProperties"], {"type": "null"}]}
    return made


def _partial(made: Any) -> Any:
    """A copy without `required`, whose references lead to partial definitions."""
    if isinstance(made, list):
        return [_partial(each) for each in made]
    if not isinstance(made, dict):
        return copy.deepcopy(made)
    copied = {key: _partial(value) for key, value in made.items() if not _is_required(key, value)}
    if "$ref" in copied:
        copied["$ref"] = copied["$ref"].replace("#/$defs/", "#/$defs/partial.")
    return copied


def _is_required(key: str, value: Any) -> bool:
    return key == "required" and isinstance(value, list)


def main(path: Path = PATH) -> None:
    """Write the schema beside the suites."""
    path.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
