"""The Python API behind `import harness`, which the commands call too.

In: suites, checkpoints, texts and results folders, by path or name. Out: typed records, scores and comparisons, and
pandas data frames. Nothing heavy is imported until a function is called.
"""

from harness.api.audits import audit, audit_run
from harness.api.results import leaderboard, records
from harness.api.scores import compare, evaluate, find_sides
from harness.api.suites import check_model, load_suite, run
from harness.api.texts import TextChoice

__all__ = [
    "TextChoice", "audit", "audit_run", "check_model", "compare", "evaluate", "find_sides", "leaderboard", "load_suite",
    "records", "run",
]  # fmt: skip
