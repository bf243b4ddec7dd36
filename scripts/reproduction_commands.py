"""How the reproduction runs commands: in an environment of its own, logged, and ended where they hang."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

GRACE_S = 10.0
"""Between asking a command to end and ending it."""


def watched(
    command: Sequence[str], log: Path, limit_s: float, environment: Mapping[str, str], folder: Path | None = None
) -> int:
    """Run one command; all it says goes to the log as well as here. Returns its exit status, negative for a signal.

    After limit_s it is asked to end, as a leg's end would ask it, and then made to.
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
                enders = [threading.Timer(limit_s, process.terminate), threading.Timer(limit_s + GRACE_S, process.kill)]
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
    """The checkout at `root` before anything installed; wheels, where given, unpacked once into the folder `site`."""
    chosen = {**os.environ, "PYTHONUNBUFFERED": "1"}
    paths = [str(root)]
    if wheels is not None:
        if not site.is_dir():
            files = sorted(str(path) for path in wheels.glob("*.whl"))
            command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(site)]
            subprocess.run([*command, *files], check=True)
        paths.append(str(site))
    chosen["PYTHONPATH"] = os.pathsep.join([*paths, *filter(None, [chosen.get("PYTHONPATH")])])
    return chosen
