"""The compiled C library of the native backends: its sources, loading it, and running it on torch's threads.

`library` loads and runs it, `buffers` reuses memory for large results, `sources` identifies the C files (no torch).
"""

__all__ = ["buffers", "library", "sources"]
