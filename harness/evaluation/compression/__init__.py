"""General-purpose compressors under the protocols `conditional`, `alone` and `prequential`.

`codecs` compresses and decompresses bytes; `score` makes a Score of the sizes. Neither imports torch.
"""

__all__ = ["codecs", "score"]
