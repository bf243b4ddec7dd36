"""Search over a suite's keys."""
