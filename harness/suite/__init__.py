"""Suites: a YAML file in, a checked `Suite` and its `RunSpec`s out.

`load` reads a suite under a profile and with `--set` overrides; `resolve` turns it into one RunSpec per entry and
seed. A mistake in a file is one SuiteError with file, line, dotted path and near name. `dry_run` estimates what a
suite would do; `python -m harness.suite.schema` writes the JSON Schema for editors. Imports no torch.
"""

from harness.suite import dry_run
from harness.suite.loader import dataset_named, load, pretrained_config, readable_suites, suite_files, suite_path
from harness.suite.resolve import evaluation_of, resolve, texts_of
from harness.suite.rules import check_model, check_vocabulary, unused_setting

__all__ = [
    "check_model",
    "check_vocabulary",
    "dataset_named",
    "dry_run",
    "evaluation_of",
    "load",
    "pretrained_config",
    "readable_suites",
    "resolve",
    "space",
    "suite_files",
    "suite_path",
    "texts_of",
    "unused_setting",
]
