"""A benchmark and evaluation harness for neural language models: suites in, records and tables out.

`load_suite`, `run`, `records` and `leaderboard` do in Python what `harness run` and `harness table` do on the command
line; docs/python.md shows them. `Model` is the base class of a model of your own, and `check_model` tests one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api import (
        TextChoice,
        audit,
        audit_run,
        check_model,
        compare,
        evaluate,
        leaderboard,
        load_suite,
        records,
        run,
    )  # fmt: skip
    from harness.core.errors import HarnessError
    from harness.core.metrics import Metric
    from harness.system.source import VERSION as __version__  # noqa: N811
    from lm_models.plugin.base import Model

__all__ = [
    "HarnessError",
    "Metric",
    "Model",
    "TextChoice",
    "__version__",
    "audit",
    "audit_run",
    "check_model",
    "compare",
    "evaluate",
    "leaderboard",
    "load_suite",
    "records",
    "run",
]


def __getattr__(name: str) -> Any:
    """Import public names on first use: every module imports this one, and `import harness` loads no torch."""
    if name not in __all__:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    elsewhere = {
        "HarnessError": ("harness.core.errors", "HarnessError"),
        "Metric": ("harness.core.metrics", "Metric"),
        "Model": ("lm_models.plugin.base", "Model"),
        "__version__": ("harness.system.source", "VERSION"),
    }
    module, attribute = elsewhere.get(name, ("harness.api", name))
    return getattr(import_module(module), attribute)
