"""Errors that a user can act on. The command line prints a `HarnessError` as one line."""

from __future__ import annotations


class HarnessError(Exception):
    """Base class. The message says what is wrong, where, and what to do."""

    exit_code = 2


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


class NotComparableError(HarnessError):
    """A gate has nothing to compare: no baseline or run, another protocol, or other code."""

    # Not 1: a job that finds nothing to compare has not found a regression.
    exit_code = 3


class BudgetError(HarnessError):
    """A time budget or limit is too short, or a stored plan does not fit."""
