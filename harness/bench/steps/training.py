"""Training steps of each backend in processes of their own, taking turns; and their matrix products alone."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import kernels
from harness.bench.steps.entries import CHAIN, COMPARISON, GEMMS, NN_LSTM, Entry
from harness.system import processes
from harness.timing import clocks
from harness.timing.clocks import Budget, Candidate, Phase, Samples

LOSS_TOLERANCE = 1e-3
"""Relative, of the first step's loss: two backends of one model under the same seed."""

STEP = "step"
OK, FAILED, UNAVAILABLE = "ok", "failed", "unavailable"


class TraineeError(Exception):
    """A participant that cannot go on, and why. Never reaches the user: it becomes a row's error."""

    def __init__(self, participant: str, reason: str) -> None:
        super().__init__(reason)
        self.participant = participant


class Trainee:
    """The parent's end of one `harness.bench.steps.trainee`."""

    def __init__(self, entry: Entry, participant: str, *, device: str, threads: int | None) -> None:
        self.participant = participant
        self.losses: list[float | None] = []
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - see close
        self._process = subprocess.Popen(
            processes.command("harness.bench.steps.trainee"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env=processes.environment(),
        )
        job = {"entry": entry.to_json(), "participant": participant, "device": device, "threads": threads}
        self._job = json.dumps(job)

    def start(self) -> None:
        """Hand over the job; the process builds its model meanwhile."""
        self._send(self._job)

    def ready(self) -> Mapping[str, Any]:
        """Wait for the model. Raises TraineeError, as do all that wait for an answer."""
        return self._receive()

    def step(self) -> float:
        """Milliseconds of one step."""
        self._send(STEP)
        answer = self._receive()
        self.losses.append(answer["loss"])
        return float(answer["ms"])

    def end(self) -> Mapping[str, Any]:
        """Peak memory."""
        self._send("end")
        return self._receive()

    def close(self) -> None:
        """Leave neither process nor pipe behind."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _send(self, line: str) -> None:
        assert self._process.stdin
        # One that died leaves no answer either: that is where its end is noticed.
        with suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _receive(self) -> Mapping[str, Any]:
        assert self._process.stdout
        answer = self._process.stdout.readline()
        if not answer:
            raise TraineeError(self.participant, self._last_words())
        found: Mapping[str, Any] = json.loads(answer)
        if "error" in found:
            raise TraineeError(self.participant, found["error"])
        return found

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        return f"ended with status {self._process.returncode}" + (f": {lines[-1][:200]}" if lines else "")


class _Reported:
    """A clock that takes a phase's own word for how long it took."""

    name = "each process's own"

    def time(self, phase: Phase, given: Any) -> tuple[Any, float]:
        return None, phase(given)


def participants(entry: Entry) -> list[str]:
    """The comparison first, then every backend but the reference, then the products alone."""
    backends = [name for name in kernels.KERNELS[entry.op] if name != "reference"]
    return [COMPARISON[entry.op], *backends, GEMMS]


def _unavailable(entry: Entry, names: Sequence[str], device: str) -> dict[str, str]:
    """Backends among the names that cannot run on the device, and why."""
    reasons = {}
    for name in names:
        if name in kernels.KERNELS[entry.op]:
            try:
                kernels.resolve(entry.op, name, device)
            except ValueError as error:
                reasons[name] = str(error)
    return reasons


def measure_entry(
    entry: Entry,
    *,
    device: str,
    budget: Budget,
    threads: int | None = None,
    names: Sequence[str] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Rows of one entry: one per participant but the products. One that fails has its reason in `error`."""
    wanted = list(names) if names is not None else participants(entry)
    absent = _unavailable(entry, wanted, device)
    errors: dict[str, str] = dict(absent)
    with ExitStack() as stack:
        trainees: dict[str, Trainee] = {}
        facts: dict[str, Mapping[str, Any]] = {}
        for name in wanted:
            if name in absent:
                continue
            trainees[name] = Trainee(entry, name, device=device, threads=threads)
            stack.callback(trainees[name].close)
            trainees[name].start()
        for name in list(trainees):
            try:
                facts[name] = trainees[name].ready()
            except TraineeError as error:
                errors[name] = str(error)
                del trainees[name]
        say(f"{entry.name}: timing {', '.join(trainees)}")
        samples = _take_turns(trainees, budget, errors)
        _compare_losses(entry, trainees, errors)
        memory = _end(trainees, errors)
    rows = [
        _row(entry, name, device, budget, samples, facts.get(name, {}), memory.get(name, {}), errors.get(name))
        for name in wanted
        if name != GEMMS
    ]
    return [{**row, "status": UNAVAILABLE} if row["backend"] in absent else row for row in rows]


def _take_turns(trainees: dict[str, Trainee], budget: Budget, errors: dict[str, str]) -> Samples:
    """Interleaved steps; a participant that fails is left out, and the others start over."""
    while trainees:
        candidates = [_candidate(trainee) for trainee in trainees.values()]
        try:
            return clocks.measure(candidates, budget, _Reported(), flush=lambda: None)
        except TraineeError as error:
            errors[error.participant] = str(error)
            del trainees[error.participant]
    return {}


def _candidate(trainee: Trainee) -> Candidate:
    return Candidate(trainee.participant, {STEP: lambda _: trainee.step()})


def _compare_losses(entry: Entry, trainees: Mapping[str, Trainee], errors: dict[str, str]) -> None:
    """A backend that trains another model than the plainest participant does is wrong, however fast.

    That is the chain, and of LSTM layers the last backend in the table: torch.nn.LSTM drops nothing, so its loss is its
    own.
    """
    plainest = next((name for name in (CHAIN, *reversed(kernels.KERNELS[entry.op])) if name in trainees), None)
    if plainest is None:
        return
    wanted = trainees[plainest].losses[0]
    assert wanted is not None
    for name, trainee in trainees.items():
        found = None if name == NN_LSTM else trainee.losses[0]
        if found is not None and not abs(found - wanted) <= LOSS_TOLERANCE * abs(wanted):
            errors[name] = f"the first step's loss is {found:.6g} nats, that of {plainest} is {wanted:.6g}"


def _end(trainees: Mapping[str, Trainee], errors: dict[str, str]) -> dict[str, Mapping[str, Any]]:
    memory = {}
    for name, trainee in trainees.items():
        try:
            memory[name] = trainee.end()
        except TraineeError as error:
            errors.setdefault(name, str(error))
    return memory


def _row(
    entry: Entry,
    name: str,
    device: str,
    budget: Budget,
    samples: Samples,
    facts: Mapping[str, Any],
    memory: Mapping[str, Any],
    error: str | None,
) -> dict[str, Any]:
    taken = samples.get((name, STEP), []) if error is None else []
    beside = COMPARISON[entry.op]

    def over(other: str) -> float | None:
        """Median over the rounds of the other's time by this one's."""
        if not taken or (other, STEP) not in samples:
            return None
        return clocks.median(clocks.paired_ratios(samples[other, STEP], taken))

    milliseconds = clocks.median(taken) if taken else None
    products = samples.get((GEMMS, STEP))
    return {
        "entry": entry.name,
        "backend": name,
        "device": device,
        "status": OK if taken else FAILED,
        "error": error if taken or error else "nothing was measured",
        "tokens_per_s": None if milliseconds is None else entry.tokens_per_step / milliseconds * 1e3,
        "speedup_over_chain": over(beside),
        "share_of_gemm": over(GEMMS),
        "peak_rss_bytes": memory.get("peak_rss_bytes"),
        "peak_device_bytes": memory.get("peak_device_bytes"),
        "step_ms": milliseconds,
        "gemm_ms": clocks.median(products) if products else None,
        "compared_with": beside,
        "num_parameters": facts.get("num_parameters"),
        "tokens_per_step": entry.tokens_per_step,
        "samples_ms": taken,
        "num_warmup": budget.warmup,
        "clock": facts.get("clock"),
    }
