"""YAML with line numbers."""
