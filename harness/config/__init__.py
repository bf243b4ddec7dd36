"""The frozen blocks of a suite."""
