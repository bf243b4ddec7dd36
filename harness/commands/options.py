"""Options that several commands share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click


class FiniteRange(click.FloatRange):
    """click's range, which takes nan for a number within it: nan is neither below the least nor above the most."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{found} is not a finite number.", param, ctx)
        return found


data_option = click.option(
    "--data", "data_path", metavar="DIR[:DIR...]", default=None,
    help="Read-only folders to look for data in; HARNESS_DATA says the same.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
device_option = click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:i]", help="Where to run."
)
results_option = click.option(
    "--results", "results", type=click.Path(path_type=Path), default=Path("results"), show_default=True,
    help="Folder of records and tables.",
)  # fmt: skip
profile_option = click.option("--profile", default=None, help="A profile of the suite; the full recipe otherwise.")
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE",
    help="Override a value of the suite, such as entries.qrnn.recipe.lr=1e-3 or recipe.epochs=2.",
)  # fmt: skip


def suite_path(name: str) -> Path:
    """The file of a suite: a path, or the name of a built-in suite."""
    from harness import suite

    return suite.suite_path(name)
