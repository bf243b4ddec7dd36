"""TensorBoard's event files: one folder for a run."""

from __future__ import annotations

from collections.abc import Mapping

from torch.utils.tensorboard import SummaryWriter

from harness.runs.tracking.sink import TrackedRun


class TensorBoard:
    """Writes `FOLDER/tensorboard/RUN_ID`; each attempt adds a file to it."""

    def __init__(self, run: TrackedRun) -> None:
        self._settings = dict(run.settings)
        # Its reader then leaves out the points of older files after this attempt's start.
        self._writer = SummaryWriter(
            str(run.folder / "tensorboard" / run.run_id), purge_step=run.tokens + 1 if run.tokens else 0
        )

    def points(self, values: Mapping[str, float], tokens: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, tokens)
        # Its own two minutes between flushes would lose that much of a run that is killed.
        self._writer.flush()

    def finish(self, status: str, scores: Mapping[str, float], tokens: int) -> None:
        # "." is this run's own folder: without a name it would get one of a clock's reading below it.
        self._writer.add_hparams({**self._settings, "status": status}, dict(scores), run_name=".", global_step=tokens)

    def close(self) -> None:
        self._writer.close()
