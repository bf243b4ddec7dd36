"""Compare runs on one text: differences with intervals, p-values and a verdict in words.

`sides` finds what A and B are, `checkpoints` scores checkpoints; `shared` brings two sides to common blocks and refuses
what cannot be compared; `pairs` judges each pair; `stretches` shows where in the text one beats the other; `planning`
says what would show a difference. Only scoring imports torch.
"""

from harness.report.comparison import planning
from harness.report.comparison.checkpoints import Checkpoint, find_checkpoint, score_checkpoint
from harness.report.comparison.pairs import Comparison, compare, to_json, to_markdown
from harness.report.comparison.shared import shared_blocks
from harness.report.comparison.sides import Runs, Side, find_side
from harness.report.comparison.stretches import Stretch, find_stretches

__all__ = [
    "Checkpoint",
    "Comparison",
    "Runs",
    "Side",
    "Stretch",
    "compare",
    "find_checkpoint",
    "find_side",
    "find_stretches",
    "planning",
    "score_checkpoint",
    "shared_blocks",
    "to_json",
    "to_markdown",
]
