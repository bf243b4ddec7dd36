"""Altair charts of the views, a module each. Needs the extra `report`."""

__all__ = ["axes", "curves", "front", "kernels", "pairs", "rankings", "runs"]
