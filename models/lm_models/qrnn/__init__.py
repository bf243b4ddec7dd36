"""QRNN language model: gates from a convolution over time, pooled elementwise.

`config.Config` is the checked config (no torch), `model.build` builds the module.
"""

__all__ = ["config", "model"]
