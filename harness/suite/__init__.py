"""YAML in, checked suites and resolved runs out. Imports no torch."""

from harness.suite.fit import check_model, check_vocabulary
from harness.suite.load import load, load_dataset
from harness.suite.resolve import evaluation_of, resolve

__all__ = ["check_model", "check_vocabulary", "evaluation_of", "load", "load_dataset", "resolve"]
