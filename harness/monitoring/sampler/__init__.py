"""The sampler process and its trace."""
