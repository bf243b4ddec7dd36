"""Score a model on a text."""
