"""`harness describe`, `doctor` and `list`: what a suite would do, what this machine can do, what is installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.commands.options import (
    FiniteRange,
    Name,
    data_option,
    json_option,
    profile_option,
    results_option,
    set_option,
    suite_path,
)
from harness.commands.output import print_json, print_problems, print_rows
from harness.core.errors import HarnessError

if TYPE_CHECKING:
    from harness.core.specs import Suite


@click.command()
@click.argument("suite", type=Name())
@profile_option
@set_option
@data_option
@results_option
@click.option("--detect", type=FiniteRange(min=0, min_open=True), metavar="X",
              help="Say instead how many seeds or how much text would show a difference of X, from the records in "
              "--results.")  # fmt: skip
@json_option
def describe(
    suite: str,
    profile: str | None,
    overrides: tuple[str, ...],
    data_path: str | None,
    results: Path,
    detect: float | None,
    as_json: bool,
) -> None:
    """Estimate what SUITE would do, without training: parameters, tokens, steps, memory, FLOPs, data."""
    from harness import data
    from harness.suite import dry_run, load

    loaded = load(suite_path(suite), profile=profile, overrides=overrides)
    if detect is not None:
        _print_plans(loaded, results, detect, as_json)
        return
    rows = dry_run.estimate(loaded, data.search_roots(data_path))
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        click.echo(dry_run.render(rows))


def _print_plans(suite: Suite, results: Path, size: float, as_json: bool) -> None:
    from harness.report.comparison import planning
    from harness.results.store import Store

    store = Store(results)
    plans = planning.plan(suite, store.records(), size)
    if as_json:
        print_json([asdict(each) for each in plans])
    else:
        click.echo(planning.to_text(plans))
    print_problems(store.problems)


@click.command()
@data_option
@json_option
def doctor(data_path: str | None, as_json: bool) -> None:
    """Report what this machine can do, which parts are missing, and how to get them."""
    from harness import data
    from harness.commands.doctor import examine, render
    from harness.core.messages import printable_lines

    checks = examine(data.search_roots(data_path))
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        click.echo(printable_lines(render(checks)))


Rows = list[Mapping[str, object]]


def _suites() -> Rows:
    from harness.suite import readable_suites

    suites, problems = readable_suites()
    rows: Rows = [
        {
            "name": suite.name,
            "dataset": suite.dataset_title,
            "metrics": ", ".join(suite.metrics),
            "entries": ", ".join(entry.name for entry in suite.entries),
            "profiles": ", ".join(suite.profiles),
            "file": str(suite.path),
        }
        for suite in suites
        if suite.profile == suite.profiles[0]  # suites come once per profile
    ]
    return [*rows, *({"name": None, "problem": problem} for problem in problems)]


def _models() -> Rows:
    import lm_models

    rows: Rows = []
    for name in lm_models.builders():
        try:
            config = lm_models.config_class(name)
        except ValueError as problem:
            raise HarnessError(f"{name}: {problem}") from None
        summary = (config.__doc__ or "").strip().split("\n")[0]
        rows.append({"name": name, "what": summary, "keys": ", ".join(field.name for field in fields(config))})
    return rows


def _datasets() -> Rows:
    from harness import data

    rows: Rows = []
    for name in data.DATASETS:
        facts = data.facts({"name": name})
        tokens = {f"{split} tokens": count for split, count in (facts.num_tokens or {}).items()}
        rows.append({"name": name, "title": facts.title, "unit": facts.unit, "vocabulary": facts.vocab_size, **tokens})
    return rows


def _metrics() -> Rows:
    from harness.core.metrics import METRICS

    return [
        {
            "name": metric.name,
            "title": metric.title,
            "unit": metric.unit,
            "better": "higher" if metric.higher_is_better else "lower",
        }
        for metric in METRICS.values()
    ]


LISTS = {"suites": _suites, "models": _models, "datasets": _datasets, "metrics": _metrics}


@click.command("list")
@click.argument("what", type=click.Choice(list(LISTS)))
@json_option
def list_(what: str, as_json: bool) -> None:
    """List what this installation has. A suite that cannot be loaded is listed with its problem."""
    print_rows(LISTS[what](), as_json)
