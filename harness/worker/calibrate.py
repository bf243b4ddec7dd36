"""Training speed of one run on this machine: a few seconds of its own training loop, on its own data and shapes."""

from __future__ import annotations

from functools import partial

from harness.core.errors import writing
from harness.results.record import RunRecord
from harness.results.store import Store
from harness.system.files import remove_tree
from harness.training import throughput
from harness.training.progress import Interrupted
from harness.worker import execute
from harness.worker.job import Rates, RunJob, Stop
from harness.worker.train import make_trainer


def measure(job: RunJob, stop: Stop) -> Rates:
    """Time the training loop of a run. Its checkpoints go to a folder that is deleted afterwards.

    Args:
        job: the run; `calibrate_s` is about how long the loop is timed, after as long a warm-up at most.
        stop: asked after every step.

    Returns:
        Training tokens per second, validations left out.

    Raises:
        Interrupted: `stop` returned True.
        Diverged: the recipe fails within these few steps.
        HarnessError: the model or the data cannot be loaded.
    """
    spec = job.spec
    folder = Store(job.results).run_folder(spec.seedless_id) / "calibration"
    model, corpus = execute.load(RunRecord(run_id=spec.run_id, spec=spec, status="finished"), job)

    new_trainer = partial(make_trainer, spec, model, corpus, folder, job.code.source_sha256)
    try:
        pace = throughput.measure(new_trainer, job.calibrate_s or 0.0, stop)
    except throughput.Stopped:
        raise Interrupted("calibration") from None
    finally:
        # Its checkpoints have the identity of the run: nothing may resume from them.
        with writing(folder):
            remove_tree(folder)
    return Rates(train_tokens_per_s=pace.tokens_per_s)
