"""Kernels and training steps timed against the machine's own ceilings and against the plain way of doing it."""
