"""Start a worker per run and gather the records."""
