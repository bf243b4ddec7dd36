"""The results tree: one folder per run, with a record that is written whole and read back checked.

`Store` finds, writes and archives records and their labels; `record` holds the typed record, `record_file` and
`csv_rows` its form on disk, `target_files` the losses of single targets, `costs` what a run cost; `published` reads the
published rows that a table compares with.
Imports no torch. Nothing of a record forms a path but its run id, which `Store.run_folder` checks.
"""

__all__ = ["costs", "csv_rows", "published", "record", "record_file", "store", "target_files"]
