"""YAML in, checked suites and resolved runs out. Imports no torch."""

from harness.suite.load import load, load_dataset
from harness.suite.resolve import evaluation_of, resolve

__all__ = ["evaluation_of", "load", "load_dataset", "resolve"]
