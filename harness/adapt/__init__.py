"""Scores of a model that learns from the text it is scored on: the neural cache and dynamic evaluation."""

from harness.adapt.score import score_adapted

__all__ = ["score_adapted"]
