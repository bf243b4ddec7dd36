"""A benchmark and evaluation harness for neural language models: suites in, records and tables out.

`load_suite`, `run`, `records` and `leaderboard` do in Python what `harness run` and `harness table` do on the command
line; docs/python.md shows them. `Model` is the base class of a model of your own, and `check_model` tests one.
"""

from __future__ import annotations

from importlib import import_module

# Not typing's: its import would take longer than the rest of this module, and Ctrl-C is not handled before `__main__`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from harness.api.audits import audit, audit_run
    from harness.api.compression import compress, decompress
    from harness.api.results import leaderboard, records
    from harness.api.scores import compare, evaluate
    from harness.api.suites import check_model, load_suite, run
    from harness.api.texts import TextChoice
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
    "compress",
    "decompress",
    "evaluate",
    "leaderboard",
    "load_suite",
    "records",
    "run",
]

_MODULES = {
    "HarnessError": "harness.core.errors", "Metric": "harness.core.metrics", "Model": "lm_models.plugin.base",
    "TextChoice": "harness.api.texts", "__version__": "harness.system.source",
    "audit": "harness.api.audits", "audit_run": "harness.api.audits", "check_model": "harness.api.suites",
    "compare": "harness.api.scores", "compress": "harness.api.compression", "decompress": "harness.api.compression",
    "evaluate": "harness.api.scores", "leaderboard": "harness.api.results", "load_suite": "harness.api.suites",
    "records": "harness.api.results", "run": "harness.api.suites",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import public names on first use: every module imports this one, and `import harness` loads no torch."""
    if name not in _MODULES:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), "VERSION" if name == "__version__" else name)
