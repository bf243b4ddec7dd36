"""Score a model that learns from the text it is scored on: the neural cache and dynamic evaluation.

Every target is scored before anything is learnt from it. `score` tunes and scores; `cache`, `dynamic` and `statistics`
are the methods of the papers, `by_token` has them as models that read one token after another, and `methods` gives
them one interface. `prequential` scores untrained weights so.
"""

__all__ = ["by_token", "cache", "dynamic", "methods", "prequential", "score", "statistics"]
