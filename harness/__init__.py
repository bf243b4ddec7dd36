"""A benchmark and evaluation harness for neural language models: suites in, records and tables out."""

__version__ = "0.1.0"
