"""A config dataclass as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from lm_models.config import LATER


def as_json(config: Any) -> dict[str, Any]:
    """A config dataclass as JSON values, defaults included: lists for tuples.

    A field marked LATER is left out at its default, so that a run keeps the id it had before the field existed.
    """
    # Through text: what a record holds is what JSON gives back, lists for tuples.
    value: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return _without_later(config, value)


def _without_later(config: Any, value: dict[str, Any]) -> dict[str, Any]:
    kept = {}
    for each in fields(config):
        own = getattr(config, each.name)
        if LATER.keys() <= each.metadata.keys() and own == each.default:
            continue
        kept[each.name] = _without_later(own, value[each.name]) if is_dataclass(own) else value[each.name]
    return kept
