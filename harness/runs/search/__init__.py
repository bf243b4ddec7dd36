"""Search over a suite's keys: a grid of trials, each an ordinary run, ranked on the validation split.

`search` turns a request into trials, the command runs them as any other runs, and `results` ranks their records by the
mean over seeds and writes a table. Imports no torch.
"""

from harness.runs.search.grid import Request, Trial, check_vocabulary, in_words, trials, trials_folder
from harness.runs.search.results import Outcome, gather

__all__ = ["Outcome", "Request", "Trial", "check_vocabulary", "gather", "in_words", "trials", "trials_folder"]
