"""minGRU language model: a gated recurrence whose gate and candidate depend on the input only, pooled in parallel.

`config.Config` is the checked config (no torch), `model.build` builds the module.
"""

__all__ = ["config", "model"]
