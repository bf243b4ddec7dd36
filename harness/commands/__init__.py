"""The command line: one file per group of commands, each of which imports what it needs inside its function.

`main.main` is the entry point of `harness` and of `python -m harness`.
"""

__all__ = ["main"]
