"""`harness search`: try a grid of settings for one entry of a suite."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from harness.commands.options import (
    MOST_TOKENS,
    SEED,
    Name,
    chosen_executor,
    data_option,
    device_option,
    executor_options,
    profile_option,
    results_option,
    set_option,
    suite_path,
)
from harness.commands.output import EXIT_FAILED, say


@click.command()
@click.argument("suite", type=Name())
@profile_option
@click.option("--entry", type=Name(), required=True, help="The entry whose settings are searched.")
@click.option("--over", type=Name(), multiple=True, metavar="KEY=V1,V2,...",
              help="An axis of the grid, such as recipe.lr=1e-3,2e-3; may be repeated.")  # fmt: skip
@click.option("--tokens", type=click.IntRange(1, MOST_TOKENS), help="How long each trial trains, in tokens.")
@click.option("--seed", "seeds", multiple=True, type=SEED, help="A seed for every trial; may be repeated.")
@device_option
@set_option
@results_option
@data_option
@click.option("--quiet", is_flag=True, help="Print the table only.")
@executor_options
def search(
    suite: str,
    data_path: str | None,
    results: Path,
    quiet: bool,
    executor: str,
    address: str | None,
    num_cpus: int | None,
    num_gpus: float | None,
    **options: Any,
) -> None:
    """Try every combination of values for one entry of SUITE and choose by the validation split alone."""
    from harness import data
    from harness.core import device
    from harness.data.download.http import download_lines
    from harness.results.store import Store
    from harness.runs import RunQueue, SuiteInterrupted, make_reporter, opened, run_suite
    from harness.runs.search import Request, check_vocabulary, gather, in_words, trials, trials_folder
    from harness.suite import dry_run

    cluster = chosen_executor(executor, address, num_cpus, num_gpus)
    path, roots = suite_path(suite), data.search_roots(data_path)
    if cluster is not None:
        options["device"] = cluster.device(options["device"])
    request = Request(suite=path, roots=roots, **{**options, "device": device.resolve(options["device"])})
    searched = trials(request)
    specs = [trial.spec for trial in searched]
    reporter = make_reporter(quiet=quiet)
    try:
        lines = download_lines(reporter.note)
        prepared = data.prepare(specs[0].dataset, roots=roots, base=path.parent, progress=lines, note=reporter.problem)
        manifest = data.read_manifest(prepared)
        check_vocabulary(request, searched, manifest.alphabet_size)
        outlook = partial(dry_run.outlook, vocab_size=manifest.alphabet_size, num_tokens=manifest.num_tokens)
        names = {
            trial.spec.run_id: f"trial {number} of {len(searched)} ({in_words(trial.values)}, seed {trial.spec.seed})"
            for number, trial in enumerate(searched, 1)
        }
        store = Store(trials_folder(results))
        with opened(cluster) as nodes:
            queue = RunQueue(specs, prepared, store, names=names, outlook=outlook, cluster=nodes)
            records = run_suite(queue, reporter)
    except SuiteInterrupted as interrupted:
        reporter.stop()
        say(f"harness: {interrupted}")
        sys.exit(interrupted.exit_code)
    finally:
        reporter.stop()
    outcome = gather(request, searched, records)
    click.echo(outcome.render(), nl=False)
    say(f"saved {outcome.write(results)}")
    if any(record.status == "failed" for record in records):
        sys.exit(EXIT_FAILED)
