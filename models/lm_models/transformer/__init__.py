"""Small Transformer language model: pre-norm, rotary positions, a memory of hidden states or a window that slides.

`config.Config` is the checked config (no torch), `model.build` builds the module.
"""

__all__ = ["config", "model"]
