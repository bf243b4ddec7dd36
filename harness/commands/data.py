"""`harness data`: fetch, find, verify and prepare datasets."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from harness.commands.options import Name, PathText, data_option, json_option
from harness.commands.output import EXIT_BAD_INPUT, print_fields, print_rows, say


@click.group()
def data() -> None:
    """Fetch, find, verify and prepare datasets."""


@data.command("list")
@data_option
@json_option
def list_(data_path: str | None, as_json: bool) -> None:
    """List every dataset and where it is."""
    from harness import data
    from harness.data import status

    rows = [asdict(row) for row in status.list_rows(data.search_roots(data_path))]
    if not as_json:
        for row in rows:
            row["tokens"] = " / ".join(f"{number:,}" for number in (row["tokens"] or {}).values())
    print_rows(rows, as_json)


@data.command()
@click.argument("name_or_suite", type=Name())
@data_option
@json_option
def prepare(name_or_suite: str, data_path: str | None, as_json: bool) -> None:
    """Fetch or find a dataset, verify it, and tokenise it once. Takes a name, or a suite file with a dataset."""
    from harness import data
    from harness.data.download import http
    from harness.suite import dataset_named

    spec, base = dataset_named(name_or_suite)
    roots = data.search_roots(data_path)
    # A download can take minutes; bars would fill a log with control characters.
    if sys.stderr.isatty():
        with http.download_bars() as bars:
            folder = data.prepare(spec, roots=roots, base=base, progress=bars, note=say)
    else:
        folder = data.prepare(spec, roots=roots, base=base, progress=http.download_lines(say), note=say)
    print_fields({"folder": str(folder), **data.read_manifest(folder).as_json()}, as_json)


@data.command("import")
@click.argument("name", type=Name())
@click.argument("path", type=PathText())
@json_option
def import_(name: str, path: Path, as_json: bool) -> None:
    """Copy the file or archive at PATH as the source of dataset NAME, if its checksum is right."""
    from harness.data import status

    print_fields(status.import_file(name, path, note=say).as_json(), as_json)


@data.command()
@click.argument("name_or_suite", type=Name())
@data_option
@json_option
def verify(name_or_suite: str, data_path: str | None, as_json: bool) -> None:
    """Compute the checksums of a dataset's sources and prepared ids and compare them."""
    from harness import data
    from harness.data import status
    from harness.suite import dataset_named

    spec, base = dataset_named(name_or_suite)
    result = status.verify(spec, roots=data.search_roots(data_path), base=base, note=say)
    print_fields(asdict(result), as_json)
    if not result.ok:
        sys.exit(EXIT_BAD_INPUT)
