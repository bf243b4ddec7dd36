"""Load what a table names by import path; an installed package may have added it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from harness.core.errors import HarnessError


def load(address: str) -> Any:
    """The object at `module:attribute`, or the module without an attribute.

    Raises:
        HarnessError: it cannot be imported; the message names it and says why.
    """
    module, _, attribute = address.partition(":")
    try:
        loaded = import_module(module)
        return getattr(loaded, attribute) if attribute else loaded
    except Exception as error:
        text = " ".join(str(error).split())
        raise HarnessError(f"{address} cannot be loaded: {text}; fix or uninstall the package that adds it") from None
