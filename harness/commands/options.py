"""Options and arguments that several commands share."""

from __future__ import annotations

import math
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from harness.core.errors import ClusterError, HarnessError, StoreError


class FiniteRange(click.FloatRange):
    """A range of floats that refuses nan, which click lets pass: it is neither below nor above any bound."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is not a finite number.", param, ctx)
        return number


# More than any text, model or machine has: a larger number is a slip of the hand.
MOST_TOKENS, MOST_SECONDS, MOST_PROCESSES = 10**12, 10**9, 1024
SEED = click.IntRange(0, 2**32 - 1)


def _check_not_empty(value: Any, param: click.Parameter | None) -> None:
    """Refuse an empty text, such as an unset variable of a shell: as a path it would mean the current folder."""
    if not os.fspath(value):
        name = param.opts[0] if isinstance(param, click.Option) else param.human_readable_name if param else "a path"
        raise HarnessError(f"{name} is empty; give it a value or leave it out")


class Name(click.types.StringParamType):
    """A text that is not empty: a name, a setting, or what may be a path."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        _check_not_empty(value, param)
        return str(super().convert(value, param, ctx))


class PathText(click.Path):
    """A path that is not empty."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        _check_not_empty(value, param)
        return Path(str(super().convert(value, param, ctx)))


class Target(PathText):
    """A file or folder to write, checked before the work whose result goes there.

    Args:
        folder: it is a folder, which may exist.
    """

    def __init__(self, *, folder: bool = False) -> None:
        super().__init__()
        self.folder = folder

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = super().convert(value, param, ctx)
        if not self.folder and path.is_dir():
            raise StoreError(f"{path}: cannot be written: it is a folder")
        places = [*([path] if self.folder else []), *path.absolute().parents]
        above = next(each for each in places if os.path.lexists(each))
        if not above.is_dir():
            raise StoreError(f"{path}: cannot be written: {above} is a file, not a folder")
        if not os.access(above, os.W_OK | os.X_OK):
            raise StoreError(f"{path}: cannot be written: no permission to write in {above}")
        return path


class NameIn(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on only
    """A key of a table of the harness, which is imported when the option is used: help must be instant."""

    name = "name"

    def __init__(self, module: str, table: str) -> None:
        self.module, self.table = module, table

    def names(self) -> tuple[str, ...]:
        return tuple(getattr(import_module(self.module), self.table))

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        # Called for the help of this command only, not for the list of commands.
        return f"[{'|'.join(self.names())}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from harness.core.messages import near

        if value not in self.names():
            self.fail(f"'{value}' is unknown.{near(str(value), self.names())}", param, ctx)
        return str(value)


data_option = click.option(
    "--data", "data_path", type=Name(), metavar="DIR[:DIR...]", default=None,
    help="Read-only folders to search for data; the default is HARNESS_DATA.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
device_option = click.option(
    "--device", type=Name(), default="auto", show_default=True, metavar="auto|cpu|cuda[:i]", help="Where to run."
)
results_option = click.option(
    "--results", "results", type=PathText(), default="results", show_default=True,
    help="Folder of records and tables.",
)  # fmt: skip
results_argument = click.argument("results", type=PathText(), default="results")
profile_option = click.option(
    "--profile", type=Name(), default=None, help="A profile of the suite; the default is its full recipe."
)
set_option = click.option(
    "--set", "overrides", type=Name(), multiple=True, metavar="KEY=VALUE",
    help="Override a value of the suite, such as entries.qrnn.recipe.lr=1e-3 or recipe.epochs=2.",
)  # fmt: skip

MOST_CPUS, MOST_GPUS = 4096, 64


def executor_options(command: Any) -> Any:
    """The options of a command that runs a suite's runs; `chosen_executor` takes their values."""
    for option in reversed((
        click.option("--executor", type=click.Choice(["local", "ray"]), default="local", show_default=True,
                     help="Run one after the other here, or on a cluster by Ray."),
        click.option("--address", type=Name(), metavar="auto|HOST:PORT|ray://HOST:PORT",
                     help="With --executor ray: the cluster; the default is that of this machine."),
        click.option("--num-cpus", type=click.IntRange(1, MOST_CPUS), metavar="N",
                     help="With --executor ray: cores and threads of one run; the default is 1."),
        click.option("--num-gpus", type=FiniteRange(0, MOST_GPUS), metavar="N",
                     help="With --executor ray: GPUs of one run, such as 0.5; the default is 0."),
    )):  # fmt: skip
        command = option(command)
    return command


def chosen_executor(executor: str, address: str | None, num_cpus: int | None, num_gpus: float | None) -> Any:
    """The values of `executor_options` as `harness.run` takes them.

    Args:
        executor: `local` or `ray`.
        address: of the cluster.
        num_cpus: of one run.
        num_gpus: of one run.

    Returns:
        ClusterOptions; None for runs on this machine.

    Raises:
        ClusterError: an option of clusters is given for runs on this machine.
    """
    given = {"address": address, "num_cpus": num_cpus, "num_gpus": num_gpus}
    named: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if executor == "local":
        if named:
            option = f"--{next(iter(named)).replace('_', '-')}"
            raise ClusterError(f"{option} is of a cluster: give --executor ray as well")
        return None
    from harness.runs.cluster import ClusterOptions

    return ClusterOptions(**named)


def suite_path(name: str) -> Path:
    """The file of a suite: a path, or the name of a built-in suite."""
    from harness import suite

    return suite.suite_path(name)
