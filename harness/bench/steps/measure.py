"""Time the training steps of each participant: child processes that take one step each per round."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import lm_kernels
from harness.bench import pipes
from harness.bench.steps.entries import (
    BFLOAT16,
    BFLOAT16_GEMMS,
    CHAIN,
    COMPARISON,
    END,
    FLOAT32,
    GEMMS,
    NN_LSTM,
    STEP,
    StepEntry,
    StepJob,
)
from harness.bench.tables import FAILED, OK, UNAVAILABLE, megabytes, number, table
from harness.system import processes
from harness.timing import clocks
from harness.timing.clocks import Budget, Candidate, Phase

# Relative difference of the first step's loss between two backends of one model under the same seed.
LOSS_TOLERANCE = 1e-3

HEADINGS = ("Entry", "Backend", "Tokens/s", "Speed-up", "GEMMs of step", "Peak RSS MB")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """Training steps of one participant, as they are saved. Figures are None if nothing was measured.

    speedup_over_chain: median over the rounds of the time of the entry's comparison, or of float32 if dtypes are
    compared, over this one's. share_of_gemm: the same for the step's matrix products alone. step_ms is a median.
    """

    entry: str
    backend: str
    device: str
    status: str
    error: str | None
    tokens_per_s: float | None = None
    speedup_over_chain: float | None = None
    share_of_gemm: float | None = None
    peak_rss_bytes: int | None = None
    peak_device_bytes: int | None = None
    step_ms: float | None = None
    samples_ms: Sequence[float] = ()


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
        self._send(json.dumps(asdict(job)))

    def ready(self) -> None:
        """Wait until the model is built."""
        self._receive()

    def step(self) -> float:
        """Run one step and return its milliseconds."""
        self._send(STEP)
        milliseconds, loss = self._receive()
        self.losses.append(loss)
        return float(milliseconds)

    def end(self) -> tuple[int, int | None]:
        """End the process and return its peak memory in bytes: resident, and allocated on a CUDA device."""
        self._send(END)
        resident, on_device = self._receive()
        return resident, on_device

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
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _receive(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            # An empty line means the end of the pipe, so the child is ending and can be waited for.
            status = self._process.wait()
            self._errors.seek(0)
            raise ParticipantError(self.participant, pipes.exit_reason(status, self._errors.read()))
        reply = json.loads(line)
        if isinstance(reply, str):
            raise ParticipantError(self.participant, reply)
        return reply


class _ReportedTime:
    """A clock whose phases measure themselves: a phase returns its own milliseconds."""

    name = "reported by each process"

    def time(self, phase: Phase, given: Any) -> tuple[Any, float]:
        return None, phase(given)


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
        One row per participant except those of the products alone. A participant that fails has the reason in `error`.
    """
    names = entry.participants if names is None else names
    unavailable = _unavailable(entry, names, device)
    errors = dict(unavailable)
    memory: dict[str, tuple[int, int | None]] = {}
    with ExitStack() as stack:
        # All started before the first is timed: loading torch takes longer than a round.
        running: dict[str, StepProcess] = {}
        for name in names:
            if name not in unavailable:
                job = StepJob(entry=entry, participant=name, device=device, threads=threads)
                running[name] = stack.enter_context(closing(StepProcess(job)))
        for name, process in list(running.items()):
            try:
                process.ready()
            except ParticipantError as error:
                errors[name] = str(error)
                del running[name]
        progress(f"{entry.name}: timing {', '.join(running)}")
        samples = _take_turns(running, budget, errors)
        _compare_losses(entry, running, errors)
        for name, process in running.items():
            try:
                memory[name] = process.end()
            except ParticipantError as error:
                errors.setdefault(name, str(error))
    rows = []
    for name in names:
        if name in errors or name not in samples:
            status = UNAVAILABLE if name in unavailable else FAILED
            reason = errors.get(name, "nothing was measured")
            rows.append(StepRow(entry=entry.name, backend=name, device=device, status=status, error=reason))
        else:
            rows.append(timed_row(entry, name, device, samples, *memory[name]))
    return [row for row in rows if row.backend not in (GEMMS, BFLOAT16_GEMMS)]


def timed_row(
    entry: StepEntry,
    name: str,
    device: str,
    samples: Mapping[str, Sequence[float]],
    peak_rss_bytes: int,
    peak_device_bytes: int | None,
) -> StepRow:
    """Compute the row of a participant.

    Args:
        entry: the model.
        name: the participant.
        device: where it trained.
        samples: participant -> milliseconds, one per round; rounds are paired between participants.
        peak_rss_bytes: of its process.
        peak_device_bytes: allocated on CUDA; None on a CPU.
    """

    def relative_to(other: str) -> float | None:
        return median(clocks.paired_ratios(samples[other], samples[name])) if other in samples else None

    step_ms = median(samples[name])
    return StepRow(
        entry=entry.name,
        backend=name,
        device=device,
        status=OK,
        error=None,
        tokens_per_s=entry.tokens_per_step / step_ms * 1e3,
        speedup_over_chain=relative_to(FLOAT32 if FLOAT32 in samples else COMPARISON[entry.op]),
        share_of_gemm=relative_to(BFLOAT16_GEMMS if name == BFLOAT16 else GEMMS),
        peak_rss_bytes=peak_rss_bytes,
        peak_device_bytes=peak_device_bytes,
        step_ms=step_ms,
        samples_ms=samples[name],
    )


def step_table(rows: Sequence[StepRow]) -> str:
    """Markdown of the rows in the given order, followed by the reasons of failures."""
    body = [
        [
            row.entry,
            row.backend,
            number(row.tokens_per_s, ",.0f") if row.status == OK else row.status,
            number(row.speedup_over_chain, ".2f"),
            number(row.share_of_gemm, ".0%"),
            number(megabytes(row.peak_rss_bytes), ",.0f"),
        ]
        for row in rows
    ]
    return table(body, HEADINGS, num_names=2, errors=[(f"{row.entry} {row.backend}", row.error) for row in rows])


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


def _take_turns(running: dict[str, StepProcess], budget: Budget, errors: dict[str, str]) -> dict[str, list[float]]:
    """Interleave the steps. A participant that fails is removed and the others start again, in equal conditions."""
    while running:
        candidates = [_candidate(process) for process in running.values()]
        try:
            samples = clocks.measure(candidates, budget, _ReportedTime(), flush=lambda: None)
        except ParticipantError as error:
            errors[error.participant] = str(error)
            del running[error.participant]
        else:
            return {name: times for (name, _), times in samples.items()}
    return {}


def _candidate(process: StepProcess) -> Candidate:
    return Candidate(process.participant, {STEP: lambda _: process.step()})


def _compare_losses(entry: StepEntry, running: Mapping[str, StepProcess], errors: dict[str, str]) -> None:
    """Fail every participant whose first loss differs from the simplest one's: it trains a different model.

    The simplest is float32, the chain, or of LSTM layers the last backend of the table. torch.nn.LSTM is exempt:
    without weight drop its loss differs.
    """
    simplest = next(
        (name for name in (FLOAT32, CHAIN, *reversed(lm_kernels.KERNELS[entry.op])) if name in running), None
    )
    if simplest is None:
        return
    expected = running[simplest].losses[0]
    assert expected is not None
    for name, process in running.items():
        loss = None if name == NN_LSTM else process.losses[0]
        # Negated, so that NaN fails.
        if loss is not None and not abs(loss - expected) <= LOSS_TOLERANCE * abs(expected):
            errors[name] = f"the first step's loss is {loss:.6g} nats, that of {simplest} is {expected:.6g}"
