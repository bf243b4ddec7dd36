"""Interpolated Kneser-Ney n-gram models of any order, counted in one pass over the training split.

`counts` counts n-grams (numpy), `smoothing` turns counts into probabilities, `model` is the language model. Importing
this package imports no torch.
"""

__all__ = ["config", "counts", "model", "smoothing"]
