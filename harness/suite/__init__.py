"""YAML in, checked suites and resolved runs out. Imports no torch."""

from harness.suite.load import load, load_dataset
from harness.suite.resolve import checkpoint_sha256, resolve

__all__ = ["checkpoint_sha256", "load", "load_dataset", "resolve"]
