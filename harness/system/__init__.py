"""The machine and the installed code: atomic files, child processes, hardware and source checksum.

`files` replaces a file in one step. `processes` starts Python children and accounts for them. `hardware` describes
the machine that a number was measured on, `source` the code that produced it. Imports nothing else of the harness.
"""

from harness.system import files, hardware, processes, source

__all__ = ["files", "hardware", "processes", "source"]
