"""Locate, download, check and unpack source files, and show progress."""

__all__ = ["http"]
