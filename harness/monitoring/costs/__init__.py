"""What a run cost."""
