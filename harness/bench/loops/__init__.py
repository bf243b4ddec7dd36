"""Whole training loops."""
