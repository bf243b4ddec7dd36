"""The machine and the installed code: atomic files, child processes, hardware and source checksum.

`reading` reads regular files of bounded size, `files` replaces a file in one step. `processes` starts Python children
and accounts for them. `hardware` describes the machine that a number was measured on, `source` the code that produced
it. Imports nothing else of the harness.
"""

from harness.system import files, hardware, processes, reading, source

__all__ = ["files", "hardware", "processes", "reading", "source"]
