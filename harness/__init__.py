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

    from lm_models.plugin.base import Model

__version__ = "0.1.0"

__all__ = ["Model", "__version__", "check_model", "leaderboard"]


def leaderboard(results: Path | str = "results") -> pd.DataFrame:
    """The leaderboard of a results folder; see `harness.report.leaderboard_frame`."""
    # Imported when called, and by name: every module imports this one, so it must import none of them.
    frame: pd.DataFrame = import_module("harness.report").leaderboard_frame(results)
    return frame


def check_model(model: Model, *, vocab_size: int) -> None:
    """Test what the harness relies on in a model of your own; ValueError says what to mend. See docs/your-own-model.md.

    Args:
        model: as built.
        vocab_size: V.

    Raises:
        ValueError: the first test that fails.
    """
    import_module("lm_models.plugin.contract").check(model, vocab_size=vocab_size)


def __getattr__(name: str) -> Any:
    """`Model` on first use: it is an nn.Module, and `import harness` loads no torch."""
    if name == "Model":
        return import_module("lm_models.plugin.base").Model
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
