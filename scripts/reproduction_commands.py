"""How the reproduction runs commands: in an environment of its own, logged, and ended where they hang."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import reproduction_needs

GRACE_S = 10.0
"""Between asking a command to end and ending it."""

TRAINING_GRACE_S = 70.0
"""The same for `harness run`, which itself waits 60 s for its worker before it ends it: ended sooner, it would leave a
worker behind that hangs and keeps the device."""


def watched(
    command: Sequence[str],
    log: Path,
    limit_s: float,
    environment: Mapping[str, str],
    folder: Path | None = None,
    grace_s: float = GRACE_S,
) -> int:
    """Run one command; all it says goes to the log as well as here. Returns its exit status, negative for a signal.

    After limit_s it is asked to end, as a leg's end would ask it, and grace_s later it is made to.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {' '.join(command)}\n")
        file.flush()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
            env=dict(environment), cwd=folder,
        ) as process:  # fmt: skip
            enders = []
            if limit_s < float("inf"):
                enders = [threading.Timer(limit_s, process.terminate), threading.Timer(limit_s + grace_s, process.kill)]
            for timer in enders:
                timer.daemon = True
                timer.start()
            try:
                assert process.stdout
                for line in process.stdout:
                    file.write(line)
                    print(f"  {line}", end="", flush=True)
                process.wait()
            finally:
                for timer in enders:
                    timer.cancel()
        if process.returncode < 0:
            file.write(f"ended by signal {-process.returncode}; its limit was {limit_s:.0f} s\n")
        return process.returncode


def environment_of(root: Path, site: Path, wheels: Path | None) -> dict[str, str]:
    """The checkout at `root` before anything installed; wheels, where given, unpacked into the folder `site`."""
    chosen = {**os.environ, "PYTHONUNBUFFERED": "1"}
    paths = [str(root)]
    if wheels is not None:
        reproduction_needs.install(wheels, site)
        paths.append(str(site))
    chosen["PYTHONPATH"] = os.pathsep.join([*paths, *filter(None, [chosen.get("PYTHONPATH")])])
    return chosen
