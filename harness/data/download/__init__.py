"""Find and fetch files."""
