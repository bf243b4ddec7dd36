"""Audit models on a text, and the scores of runs on their own data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.scores import request_for
from harness.api.texts import TextChoice

if TYPE_CHECKING:
    from harness.core.scores import Score
    from harness.evaluation.audit.report import Audit
    from harness.runs import Reporter
    from lm_models.plugin.base import Model


def audit(
    model: Path | str | Model,
    *,
    text: TextChoice | Path | str,
    vocabulary: Sequence[str] | None = None,
    device: str = "auto",
    settings: Sequence[str] = (),
    stretch: int = 10_000,
    reporter: Reporter | None = None,
) -> Audit:
    """Score a model on a text and check that the score is the length of a code: docs/audit.md.

    Args:
        model: as for `evaluate`, with `vocabulary`, `device` and `settings`.
        text: a file, or a `TextChoice` with the protocol `exact` or `streams`.
        stretch: number of targets from the beginning of the text to encode and decode.
        reporter: receives progress.

    Returns:
        The checks with their figures and verdicts; `passed` if all of them did.

    Raises:
        HarnessError: the model, the text or the two together cannot be used, or the extra audit is not installed.
    """
    from harness.evaluation import protocols
    from harness.evaluation.audit import report
    from harness.evaluation.audit.sealed import Sealed
    from harness.evaluation.coding import rows
    from harness.worker import audit as worker_audit

    rows.library()  # before data is prepared
    chosen = text if isinstance(text, TextChoice) else TextChoice(text=Path(text))
    on_start = protocols.ignore_start if reporter is None else worker_audit.ticks(reporter.event, lambda: False)
    sealed = Sealed()

    def loading(target: dict[str, Any]) -> Sealed:
        sealed.add(report.files_of(**target))
        return sealed

    request = request_for(model, chosen, vocabulary, device, settings, loading)
    return report.audit(request, stretch=stretch, on_start=on_start, sealed=sealed)


def audit_run(
    run: Path | str,
    *,
    results: Path | str = "results",
    device: str = "auto",
    data_path: Path | str | None = None,
    stretch: int | None = None,
    reporter: Reporter | None = None,
) -> list[Score]:
    """Audit the scores of a finished run on its own data: each is taken again with the saved weights and checked.

    Args:
        run: a run's folder, or its id.
        results: folder of the records, for an id.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        data_path: folder with the datasets' files; None for HARNESS_DATA and the cache.
        stretch: number of targets from the beginning of each text to encode and decode; None for a suite's.
        reporter: receives progress.

    Returns:
        The scores of the record with their `audit`, which the record is not given; `official` has none.

    Raises:
        HarnessError: there is no such finished run, its weights or data are missing, or the extra audit is not
            installed.
    """
    from dataclasses import replace

    from harness import data
    from harness.core import device as devices
    from harness.core.errors import StoreError
    from harness.evaluation.coding import rows
    from harness.report import explain
    from harness.results.store import RECORD
    from harness.runs import Reporter
    from harness.system import source
    from harness.worker import audit as worker_audit
    from harness.worker.job import RunJob

    rows.library()
    folder = Path(run).absolute()
    is_run = (folder / RECORD).is_file()
    if folder.is_dir() and not is_run:
        raise StoreError(f"{run}: holds no record of a run; give a checkpoint a text, by --text or --dataset")
    record, root = explain.find_run(str(run), Path(results)), folder.parents[1] if is_run else Path(results)
    if record.status != "finished":
        raise StoreError(f"{record.run_id}: is {record.status}, so there is no score to audit")
    spec = replace(record.spec, device=devices.resolve(device))
    roots = data.search_roots(None if data_path is None else str(data_path))
    splits = spec.evaluation.splits if spec.is_pretrained else ()
    job = RunJob(
        spec=spec,
        prepared=None if splits else data.prepare_again(spec.dataset, spec.dataset_identity, roots=roots),
        texts={split: data.find_text(spec.dataset, split, roots=roots).path for split in splits},
        results=root,
        code=source.installed(),
    )
    reporter = reporter or Reporter()
    audits = worker_audit.audit_record(record, job, reporter.event, lambda: False, stretch=stretch)
    return [replace(score, audit=audits.get(index)) for index, score in enumerate(record.scores)]
