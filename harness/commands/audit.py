"""`harness audit`: is a score the length of a code for its text?"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.commands.options import MOST_TOKENS, Name, json_option, results_option
from harness.commands.output import EXIT_FAILED, print_json, say
from harness.commands.texts import pretrained_option, refuse_text_settings, text_choice, text_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.core.audits import Check
    from harness.core.scores import Score
    from harness.runs import Reporter


@click.command()
@click.argument("checkpoint", type=Name(), metavar="RUN|CHECKPOINT")
@pretrained_option
@click.option("--stretch", type=click.IntRange(1, MOST_TOKENS), default=10_000, show_default=True, metavar="N",
              help="Targets to encode and decode, from the beginning of the text.")  # fmt: skip
@text_options
@results_option
@json_option
def audit(
    checkpoint: str,
    overrides: tuple[str, ...],
    stretch: int,
    device: str,
    results: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Check that scores are lengths of codes for their texts.

    With RUN alone, a run's folder or its id in --results: take each score of its record again, from the saved weights
    and on the run's own data, and check it. With --text or --dataset, score CHECKPOINT, a run's best model or hf:PATH
    on that text, as `harness evaluate` does, and check this score. Ends with status 1 if a check fails.
    """
    from harness.api.audits import audit, audit_run

    if options["text"] is None and options["dataset"] is None:
        refuse_text_settings(options)
        if overrides or options["protocol"] != "exact":
            raise click.UsageError("--set and --protocol go with --dataset or --text")
        with _progress(checkpoint) as reporter:
            scores = audit_run(checkpoint, results=results, device=device, data_path=options["data_path"],
                               stretch=stretch, reporter=reporter)  # fmt: skip
        _print_scores(checkpoint, scores, as_json)
        return
    if overrides and not checkpoint.startswith("hf:"):
        raise click.UsageError("--set goes with hf:PATH")
    with _progress(checkpoint) as reporter:
        made = audit(checkpoint, device=device, settings=overrides, text=text_choice(options), stretch=stretch,
                     reporter=reporter)  # fmt: skip
    if as_json:
        print_json(made.to_json())
    else:
        _print_checks(made.checks)
        _print_line(f"{'passed' if made.passed else 'FAILED'}: {made.checkpoint} on {made.on}, protocol "
                    f"{made.protocol}, {made.num_targets:,} targets, {made.nll_nats:,.2f} nats")  # fmt: skip
    if not made.passed:
        sys.exit(EXIT_FAILED)


def _print_scores(run: str, scores: list[Score], as_json: bool) -> None:
    from dataclasses import asdict

    audited = [score for score in scores if score.audit is not None]
    failed = [score for score in audited if not score.audit.passed]  # type: ignore[union-attr]
    if as_json:
        rows = [
            {
                "split": score.split,
                "protocol": score.protocol.name,
                "passed": score.audit and score.audit.passed,
                "audit": score.audit and asdict(score.audit),
            }
            for score in scores
        ]
        print_json({"run": run, "passed": bool(audited) and not failed, "scores": rows})
    else:
        for score in scores:
            if score.audit is None:
                _print_line(f"not audited: {score.split}, protocol {score.protocol.name}, which leaves targets out")
                continue
            _print_checks(score.audit.checks)
            _print_line(f"{'passed' if score.audit.passed else 'FAILED'}: {run} on {score.split}, protocol "
                        f"{score.protocol.name}, {score.tally.num_targets:,} targets, "
                        f"{score.tally.nll_nats:,.2f} nats, {score.audit.seconds:.1f} s")  # fmt: skip
    if failed or not audited:
        sys.exit(EXIT_FAILED)


def _print_checks(checks: Iterable[Check]) -> None:
    for check in checks:
        may_be = f"at most {check.bound:.3g}" if check.bound else "must be 0"
        figure = "no number" if check.figure is None else f"{check.figure:.3g} {check.unit} ({may_be})"
        _print_line(f"{'pass' if check.passed else 'FAIL'}  {check.name}: {figure}; {check.detail}")
        if not check.passed:
            click.echo(f"      it catches {check.catches}")


def _print_line(text: str) -> None:
    say(text, err=False)


@contextmanager
def _progress(name: str) -> Iterator[Reporter]:
    from harness.runs import make_reporter

    reporter = make_reporter(quiet=False)
    reporter.start(Path(name).name, "bpc")
    try:
        yield reporter
    finally:
        reporter.stop()
