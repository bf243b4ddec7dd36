"""Output formats of a table."""
