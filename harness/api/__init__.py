"""The Python API behind `import harness`, which the commands call too.

In: suites, checkpoints, texts and results folders, by path or name. Out: typed records, scores and comparisons, and
pandas data frames. `suites` loads and runs, `scores` evaluates and compares, `audits` audits, `results` reads records
and leaderboards, `texts` names the text to score, `compression` writes and reads compressed files. Nothing heavy is
imported until a function is called.
"""

__all__ = ["audits", "compression", "results", "scores", "suites", "texts"]
