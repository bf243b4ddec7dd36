"""Whether the libraries of the page are installed."""

from __future__ import annotations

from importlib import import_module

from harness.core.errors import HarnessError


def check_extra() -> None:
    """HarnessError if a library of the extra `report` is missing."""
    for name in ("altair", "jinja2", "vl_convert"):
        try:
            import_module(name)
        except ImportError:
            raise HarnessError(f"the page needs {name}: pip install 'lm-harness[report]'") from None
