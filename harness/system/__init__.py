"""The machine and the installed code: files, child processes, hardware and source checksum.

`reading` reads regular files of bounded size, `files` is the only writer of files, `paths` checks names that come from
files. `processes` starts Python children, accounts for them and
sets their allocator. `hardware` describes the machine that a number was
measured on, `dtype` what `auto` is there, `source` the code that produced the number. Imports nothing else of the
harness.
"""

from harness.system import files, hardware, paths, processes, reading, source

__all__ = ["dtype", "files", "hardware", "paths", "processes", "reading", "source"]
