"""The machine, the source and its files."""
