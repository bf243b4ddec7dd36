"""Options that several commands share."""

from __future__ import annotations

import click

data_option = click.option(
    "--data", "data_path", metavar="DIR[:DIR...]", default=None,
    help="Read-only folders to look for data in; HARNESS_DATA says the same.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
device_option = click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:i]", help="Where to run."
)
