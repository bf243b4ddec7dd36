"""How long a calibration watches each part of a run, and what it takes in all: known before one is begun."""

from __future__ import annotations

from harness.core.specs import RunSpec

PART_SHARE, PART_S = 0.004, (1.0, 10.0)
"""A part of the calibration takes this share of the budget, within these seconds."""

WARMUP_SHARE = 0.25
"""Share of the watched time that passes before anything of training is timed."""

TRAINING_TIMES = {"cpu": 1, "cuda": 8}
"""The training loop, on which nearly all of a plan rests, is watched so much longer than the other parts.

On CUDA a rate stands apart from what is captured and compiled meanwhile only over tens of seconds.
"""

START_S = 2.0
"""From a process to its first step: the imports alone."""


def part_s(budget_s: float) -> float:
    """About how long a part is watched in a calibration for a budget of so many seconds."""
    least_s, most_s = PART_S
    return min(max(PART_SHARE * budget_s, least_s), most_s)


def training_s(spec: RunSpec, seconds: float) -> float:
    """From the start until training has been watched, for parts of `seconds`; less where the recipe is over sooner."""
    return START_S + (1 + WARMUP_SHARE) * TRAINING_TIMES[spec.device.split(":")[0]] * seconds


def whole_s(spec: RunSpec, seconds: float) -> float:
    """About the whole calibration: training, a validation, every split under every protocol; no kernels."""
    scorings = 1 + len(spec.evaluation.protocols) * len(spec.evaluation.splits)
    return training_s(spec, seconds) + scorings * seconds
