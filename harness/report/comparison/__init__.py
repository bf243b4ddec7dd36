"""Compare runs on one text: differences with intervals, p-values and a verdict in words.

`sides` finds what A and B are and refuses what cannot be compared; `pairs` judges each pair; `stretches` shows where in
the text one beats the other; `planning` says what would show a difference. Imports no torch.
"""

from harness.report.comparison import planning
from harness.report.comparison.pairs import Comparison, compare, to_json, to_markdown
from harness.report.comparison.sides import Side, find_side
from harness.report.comparison.stretches import Stretch, find_stretches

__all__ = [
    "Comparison",
    "Side",
    "Stretch",
    "compare",
    "find_side",
    "find_stretches",
    "planning",
    "to_json",
    "to_markdown",
]
