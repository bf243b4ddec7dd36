"""Scores of a model that learns from the text it is scored on: the neural cache and dynamic evaluation."""

from harness.evaluation.adaptive.score import score_adapted

__all__ = ["score_adapted"]
