"""Errors that a user can act on. The command line prints a `HarnessError` as one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class HarnessError(Exception):
    """Base class. The message names the fault, its place, and a remedy.

    Each argument is one line, also if foreign text in it has several; nearly all messages are a single one.
    """

    exit_code = 2

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class SuiteError(HarnessError):
    """A suite file is wrong: `file:line: key problem`."""


class DataError(HarnessError):
    """Data is missing, damaged, or differs from its checksum."""


class CheckpointError(HarnessError):
    """A checkpoint is missing, damaged, or of another model."""


class StoreError(HarnessError):
    """A results folder or record cannot be read or written."""


class BusyError(StoreError):
    """Another process holds a run."""


class DeviceError(HarnessError):
    """This machine lacks a device, dtype or kernel."""


class ClusterError(HarnessError):
    """A cluster cannot be reached, is too small, or was lost."""


class NotComparableError(HarnessError):
    """A gate has nothing to compare: no baseline or run, another protocol, or other code."""

    # Not 1: a job that finds nothing to compare has not found a regression.
    exit_code = 3


class BudgetError(HarnessError):
    """A time budget or limit is too short, or a stored plan does not fit."""


@contextmanager
def writing(path: Path, kind: type[HarnessError] = StoreError) -> Iterator[None]:
    """Turn an error of the system into one line with path and reason.

    Args:
        path: what is written; used where the error names no file.
        kind: the class of the error raised instead.

    Raises:
        HarnessError: of class `kind`, for any OSError of the block.
    """
    try:
        yield
    except OSError as error:
        raise kind(f"{named_path(error) or path}: cannot be written: {error.strerror or error}") from error


def named_path(error: OSError) -> str | None:
    """The path in an error of the system, None without one."""
    name = error.filename
    return os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else None
