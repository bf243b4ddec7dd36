"""Search over keys of a suite by Optuna: every trial is one or more ordinary runs, ranked on the validation split.

`space_of` checks a request, `open_study` begins or continues its study, `run_trials` runs what is pending, and `gather`
ranks the records and writes a table; `importances` says which axes matter. Imports neither torch nor Optuna.
"""

from harness.runs.search.figures import draw as draw_importances
from harness.runs.search.importance import Importances, importances
from harness.runs.search.results import Outcome, gather
from harness.runs.search.space import Request, Space, Trial, check_vocabulary, in_words, space_of, trials_folder
from harness.runs.search.study import bias_of, known_trials, open_study, read_study, samplers_of, study_path
from harness.runs.search.trials import Setting, run_trials

__all__ = [
    "Importances",
    "Outcome",
    "Request",
    "Setting",
    "Space",
    "Trial",
    "bias_of",
    "check_vocabulary",
    "draw_importances",
    "gather",
    "importances",
    "in_words",
    "known_trials",
    "open_study",
    "read_study",
    "run_trials",
    "samplers_of",
    "space_of",
    "study_path",
    "trials_folder",
]
