"""Sensors, their sampler, and the costs of a run."""
