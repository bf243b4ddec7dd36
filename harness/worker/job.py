"""The job that a parent process gives a worker, and the events that come back. Imports no torch."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from harness.core.specs import RunSpec
from harness.system.source import SourceVersion

# sysexits.h EX_TEMPFAIL: stopped on request with everything saved; the same command continues.
EXIT_RESUME = 75

# What asks a worker to save and end. By --signal Slurm sends SIGUSR1 to every process of a job step, so to workers too.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

LOOPBACK = "127.0.0.1"


class Launch(BaseModel):
    """The processes that torchrun has started, where the worker is to find those of its run.

    Attributes:
        host, port: of torchrun's store, on the machine of rank 0.
        attempt: how often torchrun has started the processes again.
    """

    model_config = ConfigDict(frozen=True)

    host: str
    port: int
    attempt: int = 0


class RunJob(BaseModel):
    """One run for one worker.

    Attributes:
        spec: the run.
        prepared: folder of the prepared data; None if no model of the queue reads it.
        texts: file of each split, for a pretrained model.
        results: root of the results tree.
        code: version and checksum of the code that gave the job; a worker of other code refuses it.
        sensors: whether the hardware is sampled.
        left_s: seconds until the worker must save and end; None for no limit.
        calibrate_s: time the training loop for about this many seconds instead of running the job.
        audit_only: audit the scores of the run's record instead of running the job.
        processes: that train the run, if it has a recipe; the first is the worker, which starts the others.
        rank: number of this process among them; 0 for the worker.
        host, port: where the others find the worker.
        launch: torchrun has started the others; None if the worker does.
        node: of a cluster, where the job runs; the record's attempts name it.
    """

    # Unknown keys are ignored: the check of `code` then says clearly that the parent runs other code.
    model_config = ConfigDict(frozen=True)

    spec: RunSpec
    prepared: Path | None
    results: Path
    code: SourceVersion
    texts: dict[str, Path] = {}
    sensors: bool = True
    left_s: float | None = None
    calibrate_s: float | None = None
    audit_only: bool = False
    processes: int = 1
    rank: int = 0
    host: str = LOOPBACK
    port: int = 0
    launch: Launch | None = None
    node: str | None = None


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True)


class Resumed(_Event):
    """Training continues from a checkpoint; `thread_counts` lists torch's threads of all invocations, newest last."""

    event: Literal["resumed"] = "resumed"
    tokens: int
    step: int
    thread_counts: tuple[int, ...]


class Train(_Event):
    """Training progress: loss and best in the suite's first metric, `now` the newest sensor readings."""

    event: Literal["train"] = "train"
    tokens: int
    total_tokens: int
    loss: float | None  # not finite becomes null in JSON, and None here
    best: float | None
    seconds: float
    now: dict[str, float] = {}


class Validation(_Event):
    """A validation after `tokens` trained targets; value in the suite's first metric, lr of the last step."""

    event: Literal["validation"] = "validation"
    epoch: int
    step: int
    tokens: int
    value: float | None
    is_best: bool
    averaged: bool = False
    lr: float | None = None


class Scoring(_Event):
    """Progress of scoring one split under one protocol, in targets."""

    event: Literal["score"] = "score"
    split: str
    protocol: str
    done: int
    total: int
    now: dict[str, float] = {}


class Coding(_Event):
    """Progress of compressing or decompressing a file, in tokens; `part` says what is done."""

    event: Literal["coding"] = "coding"
    part: str
    done: int
    total: int


class KernelTiming(_Event):
    """A kernel is about to be timed."""

    event: Literal["timing"] = "timing"
    op: str
    backend: str
    case: str


class Problem(_Event):
    """Something that did not stop the run but that a person should know."""

    event: Literal["problem"] = "problem"
    text: str


class Rates(_Event):
    """The result of a calibration."""

    event: Literal["rates"] = "rates"
    train_tokens_per_s: float


class RecordWritten(_Event):
    """The run's record is on disk."""

    event: Literal["record"] = "record"
    status: str
    error: str | None


Event: TypeAlias = Annotated[
    Resumed | Train | Validation | Scoring | Coding | KernelTiming | Problem | Rates | RecordWritten,
    Field(discriminator="event"),
]
Emit: TypeAlias = Callable[[Event], None]
Stop: TypeAlias = Callable[[], bool]

_EVENTS: TypeAdapter[Event] = TypeAdapter(Event)


def parse_event(line: str) -> Event | None:
    """The event on one line of a worker's output; None for a line cut short by the worker's death."""
    try:
        return _EVENTS.validate_json(line)
    except ValidationError:
        return None
