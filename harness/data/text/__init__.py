"""Bytes, characters and words."""
