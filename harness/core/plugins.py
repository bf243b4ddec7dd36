"""Load what a table names by import path; an installed package may have added it."""

from __future__ import annotations

from typing import Any

from harness.core.errors import HarnessError
from harness.core.messages import reason
from lm_kernels import entry_points


def load(address: str) -> Any:
    """The object at `module:attribute`, or the module without an attribute.

    Raises:
        HarnessError: it cannot be imported; the message names it and says why.
    """
    try:
        return entry_points.load(address)
    except Exception as error:
        raise HarnessError(
            f"{address} cannot be loaded: {reason(error)}; fix or uninstall the package that adds it"
        ) from None
