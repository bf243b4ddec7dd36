"""The results tree and its records."""
