"""From a suite's dataset block to its checked config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeAlias, get_args

from harness.core.errors import DataError
from harness.data.config import DatasetConfig, MarkovSource, OwnText, OwnWords, Registered
from harness.data.registry import KINDS, VocabularyOrder, near

_Block: TypeAlias = type[OwnText] | type[OwnWords] | type[MarkovSource]

_CLASSES: dict[str, _Block] = {
    "bytes": OwnText,
    "chars": OwnText,
    "words": OwnWords,
    "markov": MarkovSource,
}

_KIND_NEEDED = f"a kind out of {', '.join(KINDS)}"


class SpecError(DataError, ValueError):
    """A dataset name or block that cannot be used: a ValueError for a caller, and one line for the user."""


def parse(spec: str | Mapping[str, Any] | DatasetConfig) -> DatasetConfig:
    """A registered name, a block such as {"name": "enwik8"} or {"kind": "bytes", ...}, or a config as it is.

    Raises SpecError, in one line and with the near name, for anything unknown or impossible.
    """
    if isinstance(spec, DatasetConfig):
        return spec
    try:
        return Registered(name=spec) if isinstance(spec, str) else _parse_block(spec)
    except ValueError as error:
        raise SpecError(str(error)) from None


def _parse_block(spec: Mapping[str, Any]) -> DatasetConfig:
    if "kind" not in spec:
        return _parse_registered(spec)
    kind = spec["kind"]
    if kind not in _CLASSES:
        raise ValueError(f"dataset kind {kind!r} is unknown. {near(str(kind), KINDS)}")
    config = _CLASSES[kind]
    known = [field.name for field in fields(config)]
    for key in spec:
        if key not in known:
            raise ValueError(f"dataset key '{key}' is unknown for kind {kind}. {near(str(key), known)}")
    return _validated(config, spec)


def _parse_registered(spec: Mapping[str, Any]) -> Registered:
    if "name" not in spec:
        raise ValueError(f"a dataset block needs a name, or {_KIND_NEEDED}")
    for key in spec:
        if key not in ("name", "vocabulary"):
            raise ValueError(f"dataset key '{key}' does not go with a registered name; own data needs {_KIND_NEEDED}")
    if not isinstance(spec["name"], str):
        raise ValueError(f"a dataset's name must be text, got {spec['name']!r}")
    order = spec.get("vocabulary")
    if order is not None and order not in get_args(VocabularyOrder):
        raise ValueError(f"dataset vocabulary {order!r} is unknown. {near(str(order), get_args(VocabularyOrder))}")
    return Registered(name=spec["name"], vocabulary=order)


def _validated(config: _Block, spec: Mapping[str, Any]) -> DatasetConfig:
    from pydantic import TypeAdapter, ValidationError

    try:
        # JSON mode is strict about types yet takes a list for a tuple, which is all that YAML and JSON have.
        return TypeAdapter(config).validate_json(json.dumps(dict(spec), default=list), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"dataset {where}: {message}" if where else f"dataset: {message}") from None
