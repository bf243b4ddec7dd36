"""The command line. Thin: every command imports what it needs inside its own function, so that help is instant."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness import __version__
from harness.commands.checkpoint import evaluate, import_, sample
from harness.commands.options import FiniteRange, data_option, json_option
from harness.core.errors import HarnessError, StoreError

if TYPE_CHECKING:
    from harness.core.specs import Suite
    from harness.results.record import RunRecord

EXIT_FAILED_RUN = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

UNUSABLE = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)
"""What the system says of a path that a user gave and it will not open."""

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Group(click.Group):
    """Turns the one class of user errors, and the system's refusal of a path, into one line and an exit status.

    Anything else is a bug and shows itself.
    """

    def invoke(self, ctx: click.Context) -> Any:
        if threading.current_thread() is threading.main_thread():
            # A scheduler's SIGTERM ends a command as Ctrl-C does: with a line, and nothing half written.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Where a dash or a plus-minus cannot be written as it is, the rest of the table still can.
            sys.stdout.reconfigure(errors="replace")
        try:
            return super().invoke(ctx)
        except HarnessError as error:
            click.echo(f"harness: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("harness: stopped", err=True)
            ctx.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:
            # The reader of our output is gone: say nothing more, not even at the interpreter's exit.
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, 1)
            os.dup2(devnull, 2)
            ctx.exit(EXIT_BROKEN_PIPE)
        except OSError as error:
            if error.errno not in UNUSABLE or error.filename is None:
                raise
            click.echo(f"harness: {os.fsdecode(error.filename)}: {error.strerror}", err=True)
            ctx.exit(EXIT_BAD_INPUT)


results_option = click.option(
    "--results", "results", type=click.Path(path_type=Path), default=Path("results"), show_default=True,
    help="Folder of records and tables.",
)  # fmt: skip
profile_option = click.option("--profile", default=None, help="A profile of the suite; the full recipe otherwise.")
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE",
    help="Override a value of the suite, such as entries.qrnn.recipe.lr=1e-3 or recipe.epochs=2.",
)  # fmt: skip


def budget_options(command: Any) -> Any:
    """How long a run may take, in all and this time, and where its checkpoints come from."""
    for option in (
        click.option("--resume-from", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR",
                     help="Go on from the checkpoints of this runs/RUN_ID folder, carried from elsewhere."),
        click.option("--leg", "leg_s", type=float, metavar="SECONDS",
                     help="Save and stop after so long; the same command goes on from there."),
        click.option("--tokens-per-s", type=float, metavar="N",
                     help="With --time-budget: plan for this rate instead of measuring one."),
        click.option("--time-budget", "time_budget_s", type=float, metavar="SECONDS",
                     help="Plan each run's schedule into this time, shared by entries, not by seeds; legs keep it."),
    ):  # fmt: skip
        command = option(command)
    return command


@click.group(cls=Group, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="harness")
def main() -> None:
    """Train, score and time neural language models, and set the numbers beside the published ones."""


@main.command()
@click.argument("suite")
@profile_option
@click.option("--only", multiple=True, metavar="ENTRY", help="Run this entry only; may be repeated.")
@click.option("--seed", "seeds", multiple=True, type=int, help="Run this seed instead of the suite's; may be repeated.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:i]", help="Where to run.")
@set_option
@results_option
@data_option
@click.option(
    "--again",
    is_flag=True,
    help="Repeat runs that have a record, which is kept in history; given again, it goes on where it stopped.",
)
@click.option("--sensors/--no-sensors", default=True, help="Watch the hardware meanwhile; on by default.")
@click.option("--quiet", is_flag=True, help="Print the leaderboard only.")
@budget_options
def run(
    suite: str,
    profile: str | None,
    only: tuple[str, ...],
    seeds: tuple[int, ...],
    device: str,
    overrides: tuple[str, ...],
    results: Path,
    data_path: str | None,
    again: bool,
    sensors: bool,
    quiet: bool,
    **limits: Any,
) -> None:
    """Train or load each entry of SUITE, score it, and print and save the leaderboard."""
    from harness import data
    from harness.core import device as devices
    from harness.results.store import Store
    from harness.runs import limits as limited
    from harness.runs import reporter as progress
    from harness.runs.runner import Plan, SuiteInterrupted, run_suite
    from harness.suite import check_vocabulary, load, resolve

    within = limited.Limits(**limits)
    within.check_again(again)

    loaded = load(_suite_path(suite), profile=profile, overrides=overrides)
    chosen = devices.resolve(device)
    roots, base = data.search_roots(data_path), loaded.path.parent
    specs = resolve(loaded, seeds=seeds or None, only=only, device=chosen, roots=roots)
    reporter = progress.reporter(quiet=quiet)
    try:
        prepared = data.prepare(loaded.dataset, roots=roots, base=base, progress=data.download_lines(reporter.note))
        check_vocabulary(loaded, data.read_manifest(prepared)["alphabet_size"])
        specs = limited.prepare(specs, within, prepared, Store(results), reporter.note)
        records = run_suite(Plan(specs, prepared, Store(results), again, sensors, within.deadline), reporter)
    except SuiteInterrupted as interrupted:
        reporter.stop()
        click.echo(within.farewell(interrupted, Store(results)), err=True)
        _save_what_there_is(results)
        sys.exit(EXIT_INTERRUPTED)
    except StoreError:
        _save_what_there_is(results)
        raise
    finally:
        reporter.stop()
    _print_leaderboard(loaded, records, results)
    if any(record.status != "finished" for record in records):
        sys.exit(EXIT_FAILED_RUN)


@main.command()
@click.argument("suite")
@profile_option
@set_option
@data_option
@json_option
def describe(suite: str, profile: str | None, overrides: tuple[str, ...], data_path: str | None, as_json: bool) -> None:
    """Say what SUITE would do, training nothing: parameters, tokens, steps, memory, FLOPs, data."""
    from harness import data
    from harness.suite import dry_run, load

    loaded = load(_suite_path(suite), profile=profile, overrides=overrides)
    rows = dry_run.estimate(loaded, data.search_roots(data_path))
    click.echo(json.dumps([asdict(row) for row in rows], indent=1) if as_json else dry_run.render(rows))


@main.group()
def data() -> None:
    """Fetch, find, verify and prepare datasets."""


@data.command("list")
@data_option
@json_option
def data_list(data_path: str | None, as_json: bool) -> None:
    """Every dataset and where it is."""
    from harness import data as room

    _print_rows(room.list_rows(room.search_roots(data_path)), as_json)


@data.command("prepare")
@click.argument("name_or_suite")
@data_option
@json_option
def data_prepare(name_or_suite: str, data_path: str | None, as_json: bool) -> None:
    """Fetch or find a dataset, verify it, and tokenise it once. Takes a name, or a suite with a dataset."""
    from harness import data as room

    spec, base = _dataset(name_or_suite)
    roots = room.search_roots(data_path)
    if sys.stderr.isatty():
        with room.download_bars() as bars:
            folder = room.prepare(spec, roots=roots, base=base, progress=bars)
    else:
        lines = room.download_lines(lambda text: click.echo(text, err=True))
        folder = room.prepare(spec, roots=roots, base=base, progress=lines)
    _print_mapping({"folder": str(folder), **room.read_manifest(folder)}, as_json)


@data.command("import")
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
@json_option
def data_import(name: str, path: Path, as_json: bool) -> None:
    """Take the file or archive at PATH as the source of dataset NAME, if its checksum is right."""
    from harness import data as room

    _print_mapping(room.import_file(name, path), as_json)


@data.command("verify")
@click.argument("name_or_suite")
@data_option
@json_option
def data_verify(name_or_suite: str, data_path: str | None, as_json: bool) -> None:
    """Hash a dataset's sources and prepared ids again and compare."""
    from harness import data as room

    spec, base = _dataset(name_or_suite)
    found = room.verify(spec, roots=room.search_roots(data_path), base=base)
    _print_mapping(found, as_json)
    if not found["ok"]:
        sys.exit(EXIT_BAD_INPUT)


@main.command()
@click.argument("results", type=click.Path(path_type=Path), default=Path("results"))
@click.option(
    "--format",
    "format_",
    type=click.Choice(["github", "latex", "csv", "json"]),
    default="github",
    show_default=True,
    help="Markdown, LaTeX, CSV, or JSON with every key.",
)
@click.option("--columns", metavar="NAME,NAME...", help="These columns, in this order, by heading or JSON key.")
@click.option("--save", is_flag=True, help="Write RESULTS/LEADERBOARD.md anew as well.")
def table(results: Path, format_: str, columns: str | None, save: bool) -> None:
    """Print the leaderboard of every record in RESULTS, beside the published rows.

    A record that cannot be read is named on standard error and left out; the rest is printed, and saved with --save.
    Exit 0 where every record is in the table, 2 where one is not.
    """
    from harness.report import board
    from harness.report.choice import split
    from harness.results.store import Store

    store = Store(results)
    click.echo(board.table_text(store, format_, None if columns is None else split(columns)), nl=False)
    if save:
        click.echo(f"saved {board.save(store)}", err=True)
    _warn_of(store.problems)
    if store.num_left_out:
        sys.exit(EXIT_BAD_INPUT)


@main.command()
@click.argument("results", type=click.Path(path_type=Path), default=Path("results"))
@click.option("--run", "runs", multiple=True, metavar="RUN_ID", help="This run only; may be repeated.")
@click.option("--along", type=click.Choice(["tokens", "minutes", "updates"]), default="tokens", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="A .svg, .png or .pdf.")
def curves(results: Path, runs: tuple[str, ...], along: str, out: Path) -> None:
    """Draw the learning curves of RESULTS, a panel for each dataset and metric; needs matplotlib.

    Exit 2 where a record cannot be read: it is named on standard error, and the rest is drawn.
    """
    from harness.report import board
    from harness.results.store import Store

    store = Store(results)
    click.echo(f"{board.draw(store, runs, out, along)} runs drawn in {out}")
    _warn_of(store.problems)
    if store.num_left_out:
        sys.exit(EXIT_BAD_INPUT)


@main.command()
@click.argument("results", type=click.Path(path_type=Path), default=Path("results"))
@click.option("--baseline", type=click.Path(path_type=Path), required=True, help="The file to compare with.")
@click.option("--update", is_flag=True, help="Write the baseline from RESULTS instead; tolerances are kept.")
@click.option("--speed", is_flag=True, help="With --update: include rows of training speed.")
def check(results: Path, baseline: Path, update: bool, speed: bool) -> None:
    """Compare RESULTS with a baseline. Exit 0 pass, 1 regression, 2 bad input, 3 not comparable."""
    from harness.regression import check as gate
    from harness.system import source

    if update:
        click.echo(gate.update(results, baseline, speed=speed))
        return
    report = gate.check(results, baseline, code=source.installed().to_json())
    click.echo(report.render())
    sys.exit(report.exit_code)


@main.command()
@click.argument("names", nargs=-1, metavar="[KERNEL]...")
@click.option("--case", "--entry", "cases", multiple=True, metavar="NAME", help="This one only; may be repeated.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:i]", help="Where to run.")
@click.option("--dtype", type=click.Choice(["float32", "float64", "bfloat16", "float16"]), default="float32")
@click.option("--quick", is_flag=True, help="Small cases and few rounds: seconds instead of minutes.")
@click.option("--threads", type=click.IntRange(1), default=None, help="Threads of torch; its own choice otherwise.")
@results_option
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the rows, a JSON list, here.")
@click.option("--check", "baseline", type=click.Path(path_type=Path), help="Hold the ratios to this baseline.")
@click.option("--update", is_flag=True, help="With --check: write the baseline instead.")
@click.option("--keep-memory", is_flag=True, help="Have freed memory kept: times without the system's fresh pages.")
@click.option("--speed", multiple=True, metavar="SWITCH", help="With loop: turn a speed-up on; may be repeated.")
@click.option("--backend", "backends", multiple=True, metavar="KERNEL=NAME", help="With loop: in place of `auto`.")
@click.option("--ablate", is_flag=True, help="With loop: leave out each speed-up in turn as well, and all of them.")
@click.option("--seconds", type=FiniteRange(0.1, 600), default=10.0, show_default=True, metavar="S",
              help="With loop: how long each variant is timed.")  # fmt: skip
def bench(**options: Any) -> None:
    """Time kernels (fo_pool, lstm, weight_drop; all without a name), or whole steps (training), against the plain way;
    or the whole training loop of the paper's models at full size, on random tokens (loop).

    `harness bench sensors` says what being watched costs: the same steps with the sampler and without.

    Every backend is checked against its reference first, then timed in the same rounds as the reference, the plain
    chain of operations and the machine's own ceilings. Exit 0 well, 1 a wrong kernel or a regression, 2 bad input,
    3 not comparable.
    """
    from harness.bench import command

    request = command.Request(**options)
    sys.exit(command.run(request, show=click.echo, say=lambda text: click.echo(text, err=True)))


@main.command()
@click.argument("suite")
@profile_option
@click.option("--entry", required=True, help="The entry whose settings are searched.")
@click.option(
    "--over", multiple=True, metavar="KEY=V1,V2,...", help="An axis of the grid, such as recipe.lr=1e-3,2e-3."
)
@click.option("--tokens", type=click.IntRange(1), help="How long each trial trains, in tokens.")
@click.option("--seed", "seeds", multiple=True, type=int, help="A seed for every trial; may be repeated.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:i]", help="Where to run.")
@set_option
@results_option
@data_option
@click.option("--quiet", is_flag=True, help="Print the table only.")
def search(suite: str, data_path: str | None, results: Path, quiet: bool, **asked: Any) -> None:
    """Try every combination of values for one entry of SUITE and choose by the validation split alone."""
    from harness import data
    from harness.core import device as devices
    from harness.results.store import Store
    from harness.runs import reporter as progress
    from harness.runs.runner import Plan, SuiteInterrupted, run_suite
    from harness.search import results as searched
    from harness.search import search as room

    path, roots = _suite_path(suite), data.search_roots(data_path)
    request = room.Request(suite=path, roots=roots, **{**asked, "device": devices.resolve(asked["device"])})
    found = room.trials(request)
    specs = [trial.spec for trial in found]
    reporter = progress.reporter(quiet=quiet)
    try:
        lines = data.download_lines(reporter.note)
        prepared = data.prepare(specs[0].dataset, roots=roots, base=path.parent, progress=lines)
        room.check_vocabulary(request, found, data.read_manifest(prepared)["alphabet_size"])
        records = run_suite(Plan(specs, prepared, Store(room.trials_folder(results))), reporter)
    except SuiteInterrupted as interrupted:
        reporter.stop()
        click.echo(
            f"harness: stopped; {interrupted.run_id} and the trials after it go on with the same command", err=True
        )
        sys.exit(EXIT_INTERRUPTED)
    finally:
        reporter.stop()
    outcome = searched.gather(request, found, records)
    click.echo(outcome.render(), nl=False)
    click.echo(f"saved {outcome.write(results)}", err=True)
    if any(record.status == "failed" for record in records):
        sys.exit(EXIT_FAILED_RUN)


@main.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder for the shards.")
@click.option("--dtype", type=click.Choice(["float16", "bfloat16"]), default="float16", show_default=True)
@click.option("--shard-mib", type=FiniteRange(0.125, 4096), default=15.0, show_default=True, metavar="N",
              help="Largest size of a file, in MiB.")  # fmt: skip
@json_option
def export(checkpoint: Path, out: Path, dtype: str, shard_mib: float, as_json: bool) -> None:
    """Write the weights of CHECKPOINT, or of the best model of a run's folder, in 16 bits and in small files.

    The folder it makes is a checkpoint again: a suite's `checkpoint:` reads it.
    """
    from harness.checkpoints import export as room

    made = room.export(room.find(checkpoint), out, dtype=dtype, shard_bytes=int(shard_mib * 2**20))
    entry = made["files"]["model"]
    said = {key: entry[key] for key in ("dtype", "largest_rounding")}
    _print_mapping({"folder": str(out), "shards": len(entry["shards"]), **said}, as_json)


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--interval", "interval_s", type=FiniteRange(0.05, 60), default=0.5, show_default=True,
              metavar="S", help="Seconds between samples.")  # fmt: skip
@click.option("--gpu", default="auto", show_default=True, metavar="UUID|auto|none",
              help="The GPU to watch; auto: the only one there is.")  # fmt: skip
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the whole account here.")
@click.option("--trace", "trace_file", type=click.Path(path_type=Path), help="Write every sample here, as CSV.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
def monitor(
    interval_s: float, gpu: str, json_file: Path | None, trace_file: Path | None, command: tuple[str, ...]
) -> None:
    """Run COMMAND, watch the hardware, and say on standard error what it cost. The exit status is the command's."""
    from harness.commands import monitor as room

    sys.exit(
        room.run(
            command,
            gpu=None if gpu == "none" else gpu,
            interval_s=interval_s,
            json_file=json_file,
            trace_file=trace_file,
            say=lambda text: click.echo(text, err=True),
        )
    )


@main.command("list")
@click.argument("what", type=click.Choice(["suites", "models", "datasets", "metrics"]))
@json_option
def list_(what: str, as_json: bool) -> None:
    """What this installation knows."""
    from harness.commands import catalogue

    _print_rows(catalogue.rows(what), as_json)


@main.command()
@data_option
@json_option
def doctor(data_path: str | None, as_json: bool) -> None:
    """What this machine can do, what is missing, and how to get it."""
    from harness import data as room
    from harness.commands import doctor as examiner

    checks = examiner.examine(room.search_roots(data_path))
    click.echo(json.dumps(examiner.to_json(checks), indent=1) if as_json else examiner.render(checks))


for command in (import_, evaluate, sample):
    main.add_command(command)


def _suite_path(name: str) -> Path:
    from harness.suite import suite_path

    return suite_path(name)


def _dataset(name_or_suite: str) -> tuple[Any, Path]:
    """A dataset block and the folder its relative names start from."""
    from harness.suite import load_dataset, suite_path

    if Path(name_or_suite).suffix in (".yaml", ".yml"):
        return load_dataset(suite_path(name_or_suite))
    return {"name": name_or_suite}, Path.cwd()


def _print_leaderboard(suite: Suite, records: list[RunRecord], results: Path) -> None:
    from harness.report import board
    from harness.results.store import Store

    store = Store(results)
    path = board.save(store)
    click.echo(board.suite_text(store, suite), nl=False)
    _warn_of(store.problems)
    click.echo(f"{len(records)} runs in {results / 'runs'}; every table in {path}", err=True)


def _save_what_there_is(results: Path) -> None:
    """The tables of what finished before a suite was stopped; nothing where nothing has, or where it cannot be read."""
    from harness.report import board
    from harness.results.store import Store

    with suppress(HarnessError):
        store = Store(results)
        if store.records():
            board.save(store)


def _warn_of(problems: list[str]) -> None:
    for problem in problems:
        click.echo(f"harness: {problem}", err=True)


def _print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    from tabulate import tabulate

    click.echo(tabulate(rows, headers="keys", tablefmt="github", intfmt=","))


def _print_mapping(value: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(value, indent=1))
        return
    for key, item in value.items():
        if isinstance(item, (dict, list)):
            item = json.dumps(item)
        click.echo(f"{key}: {item}")


if __name__ == "__main__":
    main()
