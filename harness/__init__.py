"""A benchmark and evaluation harness for neural language models: suites in, records and tables out.

`harness.leaderboard()` is the leaderboard of a results folder as a pandas data frame, `harness.Model` the base class of
a model of your own, and `harness.check_model` tests one; the command line does the rest.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from models.plugin.base import Model
    from models.plugin.contract import check as check_model

__version__ = "0.1.0"

__all__ = ["Model", "__version__", "check_model", "leaderboard"]

# Imported on first use, as they need torch, which `import harness` does not load.
_LAZY = {"Model": "models.plugin.base:Model", "check_model": "models.plugin.contract:check"}


def leaderboard(results: Path | str = "results") -> pd.DataFrame:
    """The leaderboard of a results folder; see `harness.report.leaderboard_frame`."""
    # Imported when called, and by name: every module imports this one, so it must import none of them.
    frame: pd.DataFrame = import_module("harness.report").leaderboard_frame(results)
    return frame


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    module, attribute = _LAZY[name].split(":")
    return getattr(import_module(module), attribute)
