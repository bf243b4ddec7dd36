"""`python -m harness` is the `harness` command, and so is the installed script."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Run the command. A signal during its imports ends it with one line and status 130 too."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    from harness.commands.main import main as command

    command()


def _end(_number: int, _frame: object) -> None:
    # No exception: in the middle of an import it would become another error, or be lost.
    try:
        os.write(2, b"harness: stopped\n")
    finally:  # also where standard error is closed or full
        os._exit(130)


if __name__ == "__main__":
    main()
