"""`harness search`: try settings of one entry of a suite."""

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
@click.option(
    "--entry", type=Name(), help="The entry whose settings are searched; the default is the one with a space."
)
@click.option("--over", type=Name(), multiple=True, metavar="KEY=V1,V2,...",
              help="Values of a key, such as recipe.lr=1e-3,2e-3, in place of its space; may be repeated.")  # fmt: skip
@click.option("--sampler", type=click.Choice(["grid", "random", "tpe"]), default="grid", show_default=True,
              help="Choose all combinations, points at random, or by Optuna's TPE from earlier trials.")  # fmt: skip
@click.option("--trials", "num_trials", type=click.IntRange(1, 100_000), metavar="N",
              help="Trials of the study, earlier ones included; a grid has all of its own.")  # fmt: skip
@click.option("--prune", "pruner", type=click.Choice(["none", "median", "halving"]), default="none",
              help="Stop trials worse than the median, or not in the better half, at equal tokens.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(1, 256), metavar="N",
              help="Trials to run at a time; 1 by default, on a cluster as many as it has room for.")  # fmt: skip
@click.option("--study", type=Name(), help="Name of the study's file; the default is made of suite, entry and space.")
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
    jobs: int | None,
    quiet: bool,
    executor: str,
    address: str | None,
    num_cpus: int | None,
    num_gpus: float | None,
    **options: Any,
) -> None:
    """Try settings of one entry of SUITE and choose by the validation split alone; needs the extra `search`.

    The settings are the entry's `space`, or --over. The same command continues a search that was stopped or killed.
    """
    from harness import data
    from harness.core import device
    from harness.data.download.http import download_lines
    from harness.results.store import Store
    from harness.runs import SuiteInterrupted, make_reporter, opened
    from harness.runs import search as searching
    from harness.suite import dry_run

    cluster = chosen_executor(executor, address, num_cpus, num_gpus)
    if cluster is not None:
        options["device"] = cluster.device(options["device"])
    path, roots = suite_path(suite), data.search_roots(data_path)
    request = searching.Request(suite=path, roots=roots, **{**options, "device": device.resolve(options["device"])})
    space = searching.space_of(request)
    for line in space.remarks():
        say(line)
    is_plain = cluster is not None or (jobs or 1) > 1
    reporter = make_reporter(quiet=quiet, plain=is_plain)
    store = Store(searching.trials_folder(results))
    try:
        with searching.open_study(space, results) as study, opened(cluster) as nodes:
            lines = download_lines(reporter.note)
            prepared = data.prepare(
                space.specs[0].dataset, roots=roots, base=path.parent, progress=lines, note=reporter.problem
            )
            manifest = data.read_manifest(prepared)
            outlook = partial(dry_run.outlook, vocab_size=manifest.alphabet_size, num_tokens=manifest.num_tokens)
            if others := sorted({*searching.samplers_of(study)} - {request.sampler}):
                say(f"earlier trials of this study were drawn by {' and '.join(others)}, new ones by {request.sampler}")
            jobs = jobs or (1 if nodes is None else max(1, nodes.num_slots()))
            setting = searching.Setting(prepared, manifest.alphabet_size, store, outlook, jobs, nodes)
            another = partial(make_reporter, quiet=quiet, plain=True)
            searching.run_trials(study, space, setting, another if is_plain else lambda: reporter)
            trials, is_random = searching.known_trials(study), searching.bias_of(study) is None
    except SuiteInterrupted as interrupted:
        reporter.stop()
        say(f"harness: {interrupted}")
        sys.exit(interrupted.exit_code)
    finally:
        reporter.stop()
    found = {run: record for trial in trials for run in trial.runs if (record := store.find(run)) is not None}
    outcome = searching.gather(space, trials, found)
    click.echo(outcome.render(), nl=False)
    file = searching.study_path(space, results)
    say(f"saved {outcome.write(file)}" + (f"; next: harness importance {file}" if is_random else ""))
    if any(record.status == "failed" for record in found.values()):
        sys.exit(EXIT_FAILED)
