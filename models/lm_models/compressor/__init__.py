"""General-purpose compressors as entries of a suite; `harness.evaluation.compressors` runs them, without a module."""

__all__ = ["config"]
