"""The only errors a user ever sees. `cli` catches `HarnessError` once and prints it as one line."""

from __future__ import annotations


class HarnessError(Exception):
    """Something the user can mend. The message says what is wrong, where, and what to do."""

    exit_code = 2


class SuiteError(HarnessError):
    """A suite file that cannot be used: `file:line: path what is wrong`."""


class DataError(HarnessError):
    """Data that is missing, damaged, or not what its name says."""


class CheckpointError(HarnessError):
    """A checkpoint that is missing, damaged, or belongs to another model."""


class StoreError(HarnessError):
    """A results folder or record that cannot be read or written."""


class BusyError(StoreError):
    """A run that another process held for longer than it was waited for."""


class DeviceError(HarnessError):
    """A device, dtype or kernel that this machine does not have."""


class NotComparableError(HarnessError):
    """A gate that cannot say yes or no: a missing baseline or run, another protocol, other code."""

    exit_code = 3


class BudgetError(HarnessError):
    """A time budget or time limit that is too short, or a plan that cannot be followed."""
