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
    # SystemExit: a package must not choose the command's exit status.
    except (Exception, SystemExit) as error:
        text = f"it calls sys.exit({error.code!r})" if isinstance(error, SystemExit) else " ".join(str(error).split())
        raise HarnessError(f"{address} cannot be loaded: {text}; fix or uninstall the package that adds it") from None
