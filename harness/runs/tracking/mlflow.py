"""A local database of MLflow, without a server: an experiment for a suite, a run for a run."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping

from harness.runs.tracking.sink import TrackedRun

# Before the import, which would else count this use and send it over the network.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

TAG = "harness.run_id"


class MLflow:
    """Writes `FOLDER/mlflow.db`: SQLite, because MLflow takes a folder of files under an escape switch only."""

    def __init__(self, run: TrackedRun) -> None:
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)  # a new database is no news
        self._client = MlflowClient(tracking_uri=f"sqlite:///{run.folder / 'mlflow.db'}")
        artifacts = (run.folder / "mlflow").as_uri()  # else `mlruns` in the current folder
        experiment = self._client.get_experiment_by_name(run.suite)
        number = experiment.experiment_id if experiment else self._client.create_experiment(run.suite, artifacts)
        earlier = self._client.search_runs([number], f"tags.`{TAG}` = '{run.run_id}'", max_results=100)
        # The last step of each series: a point cannot be deleted, and the same tokens give the same point again.
        self._last: dict[str, int] = {}
        if earlier and run.tokens:
            self._id = earlier[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            for name in earlier[0].data.metrics:
                self._last[name] = max(each.step for each in self._client.get_metric_history(self._id, name))
        else:
            for each in earlier:
                self._client.delete_run(each.info.run_id)  # moved to MLflow's deleted runs
            self._id = self._client.create_run(number, run_name=run.name, tags={TAG: run.run_id}).info.run_id
            params = [Param(name, str(value)[:500]) for name, value in run.settings.items()]
            self._client.log_batch(self._id, params=params)

    def points(self, values: Mapping[str, float], tokens: int) -> None:
        now_ms = int(time.time() * 1000)
        new = [
            Metric(name, value, now_ms, tokens) for name, value in values.items() if tokens > self._last.get(name, -1)
        ]
        self._client.log_batch(self._id, metrics=new)

    def finish(self, status: str, scores: Mapping[str, float], tokens: int) -> None:
        self.points(scores, tokens)
        self._client.set_terminated(self._id, "FINISHED" if status == "finished" else "FAILED")

    def close(self) -> None:
        return
