"""How a Python child that trains is started: our own code, whatever folder the user stands in, and the same OpenMP."""

from __future__ import annotations

import os
import sys

from harness.system import source

SPIN_COUNT = "4000"
"""How long libgomp's threads spin at a barrier before they sleep: about 80 us, where its own default is milliseconds.
On an idle machine nothing is lost. Where anything else runs, a spinning thread keeps the core from the one it waits
for, and training on two shared cores was seen to fall to a tenth of its speed."""


def command(module: str) -> list[str]:
    """Arguments that run a module of ours. -P: a folder called `models` where the user stands is not taken for it."""
    return [sys.executable, "-P", "-m", module]


def environment() -> dict[str, str]:
    """The caller's own, the child's code that of this process, and barriers that give way unless told otherwise."""
    chosen = dict(os.environ)
    chosen["PYTHONPATH"] = os.pathsep.join(filter(None, (str(source.ROOT), chosen.get("PYTHONPATH"))))
    if "OMP_WAIT_POLICY" not in chosen:
        chosen.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    return chosen
