"""Types, errors and metrics that every package shares."""
