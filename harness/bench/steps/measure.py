"""Time the training steps of each participant: child processes that take one step each per round."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import lm_kernels
from harness.bench import pipes
from harness.bench.pipes import Failure
from harness.bench.steps.entries import CHAIN, GEMMS, NN_LSTM, StepEntry
from harness.bench.steps.messages import END, STEP, PeakMemory, Ready, StepJob, StepTime
from harness.bench.steps.rows import StepRow, make_row
from harness.system import processes
from harness.timing import clocks
from harness.timing.clocks import Budget, Candidate, Phase, Samples

# Relative difference of the first step's loss between two backends of one model under the same seed.
LOSS_TOLERANCE = 1e-3

Reply = TypeVar("Reply", Ready, StepTime, PeakMemory)


class ParticipantError(Exception):
    """A participant that cannot continue, with the reason; it becomes the `error` of the row."""

    def __init__(self, participant: str, reason: str) -> None:
        super().__init__(reason)
        self.participant = participant


class StepProcess:
    """The parent's side of one `harness.bench.steps.child`. Every method that waits raises ParticipantError."""

    def __init__(self, job: StepJob) -> None:
        self.participant = job.participant
        self.losses: list[float | None] = []
        # A file and not a pipe: nobody reads it during the run, and a full pipe would block the child.
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - see close
        self._process = subprocess.Popen(
            processes.command("harness.bench.steps.child"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env=processes.environment(),
        )
        # Sent at once: the children build their models at the same time.
        self._send(pipes.encode(job))

    def ready(self) -> Ready:
        """Wait until the model is built."""
        return self._receive(Ready)

    def step(self) -> float:
        """Run one step and return its milliseconds."""
        self._send(STEP + "\n")
        reply = self._receive(StepTime)
        self.losses.append(reply.loss)
        return reply.ms

    def end(self) -> PeakMemory:
        """End the process and return its peak memory."""
        self._send(END + "\n")
        return self._receive(PeakMemory)

    def close(self) -> None:
        """Kill the process if it still runs and close its pipes."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _send(self, line: str) -> None:
        assert self._process.stdin
        # A dead child is reported when its answer is read.
        # Unflushed lines would wait in the buffer while the child waits for them.
        with suppress(BrokenPipeError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def _receive(self, kind: type[Reply]) -> Reply:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            # An empty line means the end of the pipe, so the child is ending and can be waited for.
            status = self._process.wait()
            self._errors.seek(0)
            raise ParticipantError(self.participant, pipes.exit_reason(status, self._errors.read()))
        reply: Reply | Failure = pipes.decode(kind | Failure, line)  # type: ignore[arg-type]
        if isinstance(reply, Failure):
            raise ParticipantError(self.participant, reply.error)
        return reply


class _ReportedTime:
    """A clock whose phases measure themselves: a phase returns its own milliseconds."""

    name = "reported by each process"

    def time(self, phase: Phase, given: Any) -> tuple[Any, float]:
        return None, phase(given)


@dataclass(slots=True)
class _Outcome:
    """Results of each participant; `errors` holds the reasons of those that failed."""

    ready: dict[str, Ready]
    memory: dict[str, PeakMemory]
    errors: dict[str, str]


def measure_entry(
    entry: StepEntry,
    *,
    device: str,
    budget: Budget,
    threads: int | None = None,
    names: Sequence[str] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> list[StepRow]:
    """Time the training steps of one entry.

    Args:
        entry: the model.
        device: where to train.
        budget: rounds, warm-up and seconds.
        threads: of torch in each child; None for its default.
        names: participants; None for all of the entry's.
        progress: receives one line before the timing starts.

    Returns:
        One row per participant except GEMMS. A participant that fails has the reason in `error`.
    """
    names = entry.participants if names is None else names
    unavailable = _unavailable(entry, names, device)
    outcome = _Outcome({}, {}, dict(unavailable))
    with ExitStack() as stack:
        # All started before the first is timed: loading torch takes longer than a round.
        running: dict[str, StepProcess] = {}
        for name in names:
            if name not in unavailable:
                job = StepJob(entry=entry, participant=name, device=device, threads=threads)
                running[name] = StepProcess(job)
                stack.callback(running[name].close)
        for name in list(running):
            try:
                outcome.ready[name] = running[name].ready()
            except ParticipantError as error:
                outcome.errors[name] = str(error)
                del running[name]
        progress(f"{entry.name}: timing {', '.join(running)}")
        samples = _take_turns(running, budget, outcome.errors)
        _compare_losses(entry, running, outcome.errors)
        for name, process in running.items():
            try:
                outcome.memory[name] = process.end()
            except ParticipantError as error:
                outcome.errors.setdefault(name, str(error))
    return [
        make_row(
            entry,
            name,
            device=device,
            num_warmup=budget.warmup,
            samples={participant: times for (participant, _), times in samples.items()},
            ready=outcome.ready.get(name),
            memory=outcome.memory.get(name),
            error=outcome.errors.get(name),
            is_unavailable=name in unavailable,
        )
        for name in names
        if name != GEMMS
    ]


def _unavailable(entry: StepEntry, names: Sequence[str], device: str) -> dict[str, str]:
    """Backends that cannot run on the device -> the reason."""
    reasons = {}
    for name in names:
        if name in lm_kernels.KERNELS[entry.op]:
            try:
                lm_kernels.resolve(entry.op, name, device)
            except ValueError as error:
                reasons[name] = str(error)
    return reasons


def _take_turns(running: dict[str, StepProcess], budget: Budget, errors: dict[str, str]) -> Samples:
    """Interleave the steps. A participant that fails is removed and the others start again, in equal conditions."""
    while running:
        candidates = [_candidate(process) for process in running.values()]
        try:
            return clocks.measure(candidates, budget, _ReportedTime(), flush=lambda: None)
        except ParticipantError as error:
            errors[error.participant] = str(error)
            del running[error.participant]
    return {}


def _candidate(process: StepProcess) -> Candidate:
    return Candidate(process.participant, {STEP: lambda _: process.step()})


def _compare_losses(entry: StepEntry, running: Mapping[str, StepProcess], errors: dict[str, str]) -> None:
    """Fail every participant whose first loss differs from the simplest one's: it trains a different model.

    The simplest is the chain, or of LSTM layers the last backend of the table. torch.nn.LSTM is exempt: without weight
    drop its loss differs.
    """
    simplest = next((name for name in (CHAIN, *reversed(lm_kernels.KERNELS[entry.op])) if name in running), None)
    if simplest is None:
        return
    expected = running[simplest].losses[0]
    assert expected is not None
    for name, process in running.items():
        loss = None if name == NN_LSTM else process.losses[0]
        # Negated, so that NaN fails.
        if loss is not None and not abs(loss - expected) <= LOSS_TOLERANCE * abs(expected):
            errors[name] = f"the first step's loss is {loss:.6g} nats, that of {simplest} is {expected:.6g}"
