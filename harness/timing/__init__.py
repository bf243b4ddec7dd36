"""Clocks, ceilings and timed kernels."""
