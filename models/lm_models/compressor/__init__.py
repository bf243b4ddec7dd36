"""General-purpose compressors as entries of a suite; they have no module, `harness.evaluation.compression` runs them."""

__all__ = ["config"]
