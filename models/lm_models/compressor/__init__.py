"""General-purpose compressors as entries of a suite; `harness.evaluation.compression` runs them, without a module."""

__all__ = ["config"]
