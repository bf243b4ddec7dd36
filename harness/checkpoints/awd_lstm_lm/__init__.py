"""Checkpoints of awd-lstm-lm, read as data and never run, into checkpoints of this harness."""
