"""A seeded Markov source with a known entropy rate, and the oracle that scores it exactly.

`source` generates tables, entropies and samples (numpy only); `config.Config` and `model.build` are the oracle as a
language model.
"""

__all__ = ["config", "model", "source"]
