"""General-purpose compressors under the protocols `conditional`, `alone` and `prequential`.

`codecs` compresses and decompresses bytes, `score` makes a Score of the sizes, `audit` makes the scores of a run again.
Only `audit` imports torch.
"""

__all__ = ["audit", "codecs", "score"]
