"""The quality and speed gates."""
