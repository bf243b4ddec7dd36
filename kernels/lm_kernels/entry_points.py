"""What installed packages add to the tables of the harness. Here, because every package may import from this one."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module, metadata
from typing import Any

# Each is an entry point group, `lm_harness.models` and so on. docs/extending.md says what an entry names.
TABLES = ("models", "datasets", "metrics", "sensors", "kernels", "formats")


@cache
def every(table: str) -> dict[str, metadata.EntryPoint]:
    """Entry points of a table's group by name."""
    return {point.name: point for point in metadata.entry_points(group=f"lm_harness.{table}")}


def added(table: str, known: Iterable[str] = ()) -> dict[str, str]:
    """Entries for a table whose values are import paths.

    Args:
        table: one of TABLES.
        known: names that the table has itself, which no package can replace.

    Returns:
        Name -> `module:attribute`, as the package declares it.
    """
    return {name: point.value for name, point in every(table).items() if name not in known}


@contextlib.contextmanager
def no_exit() -> Iterator[None]:
    """Run code from outside, which may not end the process: the command would report success with its work not done.

    Raises RuntimeError in place of SystemExit and of a call of os._exit. Other threads, and processes that the code
    forks, may still end as they like. A crash of the interpreter cannot be held up.
    """
    real, here = os._exit, (os.getpid(), threading.get_ident())
    is_inside = True

    def end(status: int) -> None:
        if is_inside and (os.getpid(), threading.get_ident()) == here:
            raise RuntimeError(f"its code calls os._exit({status!r})")
        real(status)

    os._exit = end  # type: ignore[assignment]  # it returns nothing, as real does
    try:
        yield
    except SystemExit as error:
        raise RuntimeError(f"its code calls sys.exit({error.code!r})") from None
    finally:
        is_inside = False
        os._exit = real


def load(address: str) -> Any:
    """The object at `module:attribute`, or the module without an attribute. Raises what its import raises."""
    name, _, attribute = address.partition(":")
    with no_exit():
        module = import_module(name)
    return getattr(module, attribute) if attribute else module
