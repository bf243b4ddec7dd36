"""Whether the models of a suite can stand over the dataset's vocabulary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

import models
from harness.core.errors import SuiteError
from harness.core.specs import Suite


def misfit(config: Any, vocab_size: int) -> str | None:
    """Why a model cannot have so many tokens, in its config's own words (cutoffs beyond them); None if it can."""
    try:
        config.num_parameters(vocab_size)
    except ValueError as error:
        return str(error)
    return None


def check_vocabulary(suite: Suite, vocab_size: int) -> None:
    """For text whose vocabulary is known only once prepared. Raises SuiteError for the first misfit."""
    for entry in suite.entries:
        check_model(entry.model, vocab_size, f"{suite.path}: entries.{entry.name}.model")


def check_model(model: Mapping[str, Any], vocab_size: int, where: str) -> None:
    """A model block with its `builder`, which stands at `where`. Raises SuiteError where it cannot have the tokens."""
    block = {key: value for key, value in model.items() if key != "builder"}
    config = TypeAdapter(models.config_class(model["builder"])).validate_json(json.dumps(block), strict=True)
    problem = misfit(config, vocab_size)
    if problem is not None:
        raise SuiteError(f"{where}: {problem}")
