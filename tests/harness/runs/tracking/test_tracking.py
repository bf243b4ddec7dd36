"""Series as TensorBoard's and MLflow's own readers see them, and sinks that fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import record_factory
from invoking import call
from jobs import in_this_process, make_job

import harness
from harness.runs import runner
from harness.runs.tracking import TrackedRun, Tracking
from harness.worker.job import Event, Resumed, Train, Validation

RUN_ID = record_factory.spec().run_id


class Kept:
    """A sink that keeps what it receives, by run."""

    runs: dict[str, Kept]

    def __init__(self, run: TrackedRun) -> None:
        self.run, self.series, self.ended, self.is_closed = run, dict[str, list[tuple[int, float]]](), (), False
        self.runs[run.run_id] = self

    def points(self, values: Mapping[str, float], tokens: int) -> None:
        for name, value in values.items():
            self.series.setdefault(name, []).append((tokens, value))

    def finish(self, status: str, scores: Mapping[str, float], tokens: int) -> None:
        self.ended = (status, dict(scores), tokens)

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def kept() -> type[Kept]:
    return type("Kept", (Kept,), {"runs": {}})


def train(tokens: int, loss: float | None) -> Train:
    return Train(tokens=tokens, total_tokens=400, loss=loss, best=None, seconds=tokens / 100, now={"cpu_percent": 90.0})


def validation(tokens: int, value: float) -> Validation:
    return Validation(epoch=1, step=tokens, value=value, is_best=True, tokens=tokens, lr=0.5)


def attempt(tracking: Tracking, *events: Event, ends: bool = False) -> None:
    series = tracking.start(record_factory.spec(), "awd-lstm")
    for event in events:
        series.event(event)
    if ends:
        series.finish(record_factory.record())
    tracking.close()


FIRST = (train(100, 4.0), validation(200, 3.0), train(300, 2.5))
# Killed after 300 tokens with a checkpoint at 200.
SECOND = (Resumed(tokens=200, step=2, thread_counts=(1,)), train(300, 2.5), train(350, None), validation(400, 2.0))
LOSSES = [(100, 4.0), (300, 2.5)]
VALIDATIONS = [(200, 3.0), (400, 2.0)]


def test_events_become_points_at_tokens(tmp_path: Path, kept: type[Kept]) -> None:
    attempt(Tracking([kept], tmp_path, pytest.fail), *FIRST, validation(400, 2.0), ends=True)
    sink = kept.runs[RUN_ID]
    assert sink.series == {
        "train/bpc": LOSSES,
        "train/tokens_per_s": [(300, 100.0)],
        "train/learning_rate": [(200, 0.5), (400, 0.5)],
        "validation/bpc": VALIDATIONS,
        "hardware/cpu_percent": [(100, 90.0), (300, 90.0)],
    }
    assert sink.ended == ("finished", {"valid/exact/bpc": pytest.approx(1.6), "test/exact/bpc": 1.5}, 400)
    assert sink.is_closed
    assert sink.run.settings["recipe.lr"] == 2e-3
    assert sink.run.settings["model.dropout.input"] == 0.1


def tensorboard_series(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder / "tensorboard" / RUN_ID)).Reload()
    assert "_hparams_/session_start_info" in reader.summary_metadata
    return {name: [(each.step, each.value) for each in reader.Scalars(name)] for name in reader.Tags()["scalars"]}


def mlflow_series(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("ptb-char")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("awd-lstm", "FINISHED")
    assert run.data.params["recipe.lr"] == "0.002"
    history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return {name: sorted((each.step, each.value) for each in points) for name, points in history.items()}


# Of the libraries' own code.
@pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning", "ignore::DeprecationWarning:mlflow")
@pytest.mark.parametrize(
    ("name", "read"),
    [("tensorboard", tensorboard_series), pytest.param("mlflow", mlflow_series, marks=pytest.mark.slow)],
)
def test_a_resumed_run_continues_its_series_and_a_repeated_one_begins_it_anew(
    tmp_path: Path, name: str, read: Callable[[Path], dict[str, Any]]
) -> None:
    pytest.importorskip(name, reason="an extra is not installed")
    attempt(Tracking([name], tmp_path, pytest.fail), *FIRST)
    attempt(Tracking([name], tmp_path, pytest.fail), *SECOND, ends=True)
    series = read(tmp_path)
    assert (series["train/bpc"], series["validation/bpc"]) == (LOSSES, VALIDATIONS)
    assert series["test/exact/bpc"] == [(400, 1.5)]
    attempt(Tracking([name], tmp_path, pytest.fail), train(50, 1.0), ends=True)
    assert read(tmp_path)["train/bpc"] == [(50, 1.0)]


class Broken(Kept):
    def points(self, values: Mapping[str, float], tokens: int) -> None:
        raise SystemExit("the disk\nis full")


class Hanging(Kept):
    release: threading.Event

    def points(self, values: Mapping[str, float], tokens: int) -> None:
        self.release.wait()


def test_a_sink_that_fails_is_dropped_with_one_line_and_the_others_go_on(tmp_path: Path, kept: type[Kept]) -> None:
    lines: list[str] = []
    broken = type("Broken", (Broken,), {"runs": {}})
    attempt(Tracking([broken, kept], tmp_path, lines.append), *FIRST, ends=True)
    assert lines == ["--track Broken: failed: the disk is full; the runs go on without it"]
    assert kept.runs[RUN_ID].is_closed


@pytest.mark.parametrize(("capacity", "said"), [(2, "does not keep up or hangs"), (99, "has not answered for 0 s")])
def test_a_sink_that_hangs_is_dropped_with_one_line(tmp_path: Path, capacity: int, said: str) -> None:
    lines: list[str] = []
    hanging = type("Hanging", (Hanging,), {"runs": {}, "release": threading.Event()})
    attempt(Tracking([hanging], tmp_path, lines.append, capacity=capacity, close_s=0.0), *FIRST, ends=True)
    hanging.release.set()
    assert lines == [f"--track Hanging: {said}; the runs go on without it"]


def test_a_run_is_tracked_and_a_failing_sink_changes_nothing(
    tmp_path: Path, kept: type[Kept], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "run_worker", in_this_process)
    make_job(tmp_path)
    broken = type("Broken", (Broken,), {"runs": {}})
    [record] = harness.run(
        tmp_path / "small.yaml", results=tmp_path / "results", device="cpu", sensors=False, track=[kept, broken]
    )
    sink = kept.runs[record.run_id]
    assert sink.series["validation/bpc"] == [
        (row["tokens"], pytest.approx(row["valid_nll_nats"] / 0.6931471805599453)) for row in record.curve
    ]
    assert {f"test/{name}/bpc" for name in ("exact", "official", "streams")} <= {*sink.ended[1]}
    assert sink.run.folder == tmp_path / "results" / "tracking"
    assert capsys.readouterr().err.count("--track Broken: failed") == 1


def test_what_is_wrong_is_said_before_any_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_job(tmp_path)
    run = ("run", str(tmp_path / "small.yaml"), "--results", str(tmp_path / "results"))
    done = call(*run, "--track", "tensorbord")
    assert done.exit_code == 2
    assert "Did you mean 'tensorboard'?" in done.stderr
    assert call(*run, "--track-to", str(tmp_path / "logs")).stderr == (
        "harness: --track-to is the folder of a --track: give --track as well\n"
    )
    monkeypatch.setattr("harness.runs.tracking.feed.find_spec", lambda name: None)
    done = call(*run, "--track", "tensorboard")
    assert done.stderr == "harness: --track tensorboard needs tensorboard: pip install 'lm-harness[tensorboard]'\n"
    assert not (tmp_path / "results" / "runs").exists()
