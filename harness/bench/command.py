"""What `harness bench` does, apart from reading the command line."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import kernels
from harness.bench import record
from harness.bench.steps.entries import ENTRIES, Entry
from harness.core import device as devices
from harness.core.errors import DeviceError, HarnessError
from harness.regression import speed_ratios
from harness.timing.clocks import Budget

TRAINING, LOOP, SENSORS = "training", "loop", "sensors"
ALONE = (TRAINING, LOOP, SENSORS)
"""What is measured by itself, without kernels and without a gate."""
EXIT_OK, EXIT_FAILED_KERNEL = 0, 1

QUICK_BYTES, QUICK_FLOPS = 64 << 20, 20e9
"""What forward and backward of a quick case may move and compute."""

BUDGET = Budget(seconds=8.0, minimum=11, maximum=60, warmup=2)
LSTM_BUDGET = Budget(seconds=8.0, minimum=7, maximum=60, warmup=2)
"""A round of the largest layer and its reference takes the better part of a minute."""

QUICK_BUDGET = Budget(seconds=1.0, minimum=7, maximum=40, warmup=2)
TRAINING_BUDGET = Budget(seconds=60.0, minimum=5, maximum=20, warmup=2)
QUICK_LOOP_S = 1.0
QUICK_TRAINING_BUDGET = Budget(seconds=10.0, minimum=3, maximum=8, warmup=1)

TURNS: dict[str, Any] = {"rounds": 10, "turn_s": 10.0}
QUICK_TURNS: dict[str, Any] = {"rounds": 3, "turn_s": 3.0}
"""Of `bench sensors`: three turns a round, five minutes in all, or half a minute."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of `harness bench`, as given."""

    names: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    device: str = "auto"
    dtype: str = "float32"
    quick: bool = False
    threads: int | None = None
    results: Path = Path("results")
    json_file: Path | None = None
    baseline: Path | None = None
    update: bool = False
    keep_memory: bool = False
    speed: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    ablate: bool = False
    seconds: float = 10.0


def run(request: Request, *, show: Say, say: Say) -> int:
    """Measure, print, and write the record. Returns the exit status; `show` prints results and `say` progress.

    Raises DeviceError for a kernel, case or device that is not there, StoreError for what cannot be written.
    """
    if request.update and request.baseline is None:
        raise HarnessError("--update makes a baseline: name its file with --check FILE")
    names = request.names or tuple(kernels.KERNELS)
    for name in names:
        ops = [op for op, backends in kernels.KERNELS.items() if name in backends]
        if ops:
            raise DeviceError(f"'{name}' is a backend of {', '.join(ops)}, not a kernel; name one of these to time it")
        _known(name, (*kernels.KERNELS, *ALONE), "kernel")
    for name in ALONE:
        if name in names:
            if len(names) > 1 or request.baseline is not None:
                raise HarnessError(f"bench {name} stands alone: without other kernels and without --check")
            return {TRAINING: _training, LOOP: _loop, SENSORS: _sensors}[name](request, show, say)
    return _kernels(request, names, show, say)


def _kernels(request: Request, names: Sequence[str], show: Say, say: Say) -> int:
    import torch

    from harness.bench.allocator import keep_freed_memory
    from harness.checkpoints import model
    from harness.report import kernel_table
    from harness.system import hardware as machine
    from harness.timing.backends import FAILED, Bench

    planned = plan(names, request.cases, quick=request.quick)
    device = _device(request.device)
    model.forbid_tf32()
    if request.threads:
        torch.set_num_threads(request.threads)
    here = machine.describe(device).to_json()
    old = None
    if request.baseline is not None and (not request.update or request.baseline.exists()):
        old = speed_ratios.read(request.baseline)
        if not request.update and old.fingerprint != here["fingerprint"]:
            report = speed_ratios.skipped(old, here["fingerprint"])
            show(report.render())
            return report.exit_code
    memory_kept = request.keep_memory and keep_freed_memory()
    bench = Bench(
        device=device,
        dtype=getattr(torch, request.dtype),
        twin=request.baseline is not None,
    )
    rows: list[dict[str, Any]] = []

    def measure(op: str, case: Any) -> list[dict[str, Any]]:
        bench.budget = budget_of(op, quick=request.quick)
        return bench.case(op, case)

    for op, case in planned:
        say(f"{op} {case.name}")
        rows += measure(op, case)
    show(kernel_table(rows))
    how = {"names": list(names), "quick": request.quick, "dtype": request.dtype, "freed_memory_kept": memory_kept,
           "budget": {op: asdict(budget_of(op, quick=request.quick)) for op in names}}  # fmt: skip
    _keep(request, "kernels", here, rows, how, say)
    failed = sum(row["status"] == FAILED for row in rows)
    if request.baseline is None:
        return EXIT_FAILED_KERNEL if failed else EXIT_OK
    if request.update:
        made = speed_ratios.merge(old, speed_ratios.make(here["fingerprint"], rows))
        speed_ratios.write(request.baseline, made)
        show(f"{len(made.rows)} rows in {request.baseline}" + (f"; {failed} failed and are not new" if failed else ""))
        return EXIT_FAILED_KERNEL if failed else EXIT_OK
    assert old is not None

    def again(op: str, name: str) -> list[dict[str, Any]]:
        say(f"{op} {name}, once more")
        return next(measure(op, case) for planned_op, case in planned if (planned_op, case.name) == (op, name))

    report = speed_ratios.judge(old, rows, again)
    show(report.render())
    return report.exit_code


def budget_of(op: str, *, quick: bool) -> Budget:
    """How long each case of an op is measured."""
    if quick:
        return QUICK_BUDGET
    return LSTM_BUDGET if op == "lstm" else BUDGET


def plan(names: Sequence[str], cases: Sequence[str], *, quick: bool) -> list[tuple[str, Any]]:
    """(op, case) for all cases that are timed, or those named. Raises DeviceError for a name no op has."""
    from kernels.cases import CASES

    known = [case.name for op in names for case in CASES[op]]
    for name in cases:
        _known(name, known, "case")
    if cases:
        return [(op, case) for op in names for case in CASES[op] if case.name in cases]
    return [(op, case) for op in names for case in CASES[op] if case.timed and (not quick or _is_quick(case))]


def _is_quick(case: Any) -> bool:
    import torch

    from harness.timing.ops import work, working_set_bytes

    flops = sum(part.flops or 0 for part in work(case, torch.float32).values())
    return working_set_bytes(case, torch.float32) <= QUICK_BYTES and flops <= QUICK_FLOPS


def _training(request: Request, show: Say, say: Say) -> int:
    from harness.bench.steps.training import FAILED, measure_entry
    from harness.report.kernels import training_table
    from harness.system import hardware as machine

    for name in request.cases:
        _known(name, ENTRIES, "entry")
    entries: list[Entry] = [ENTRIES[name] for name in request.cases] or [
        entry for entry in ENTRIES.values() if entry.quick or not request.quick
    ]
    if request.dtype != "float32":
        raise DeviceError(f"bench training is measured in float32, not {request.dtype}")
    device = _device(request.device)
    budget = QUICK_TRAINING_BUDGET if request.quick else TRAINING_BUDGET
    rows = []
    for entry in entries:
        rows += measure_entry(entry, device=device, budget=budget, threads=request.threads, say=say)
    show(training_table(rows))
    if request.threads:
        import torch

        torch.set_num_threads(request.threads)
    how = {"entries": [entry.to_json() for entry in entries], "quick": request.quick, "budget": asdict(budget)}
    _keep(request, TRAINING, machine.describe(device).to_json(), rows, how, say)
    return EXIT_FAILED_KERNEL if any(row["status"] == FAILED for row in rows) else EXIT_OK


def _loop(request: Request, show: Say, say: Say) -> int:
    from harness.bench.loops import loops
    from harness.bench.loops.full_size import LOOPS
    from harness.config.speed import Speed
    from harness.system import hardware as machine

    if not request.cases:
        raise HarnessError(f"bench loop runs full-size models: name one with --entry: {', '.join(LOOPS)}")
    for name in request.cases:
        _known(name, LOOPS, "entry")
    switches = [field.name for field in fields(Speed)]
    for name in request.speed:
        _known(name, switches, "switch")
    if request.dtype == "float64":
        raise DeviceError("bench loop is measured in float32, bfloat16 or float16")
    device = _device(request.device)
    speed = Speed(**{name: name in request.speed or getattr(Speed(), name) for name in switches})
    ways = loops.variants(request.dtype, speed, device, ablate=request.ablate)
    entries = [LOOPS[name] for name in request.cases]
    seconds = min(request.seconds, QUICK_LOOP_S) if request.quick else request.seconds
    chosen = _backends(request.backends)

    def so_far(rows: Sequence[Mapping[str, Any]]) -> None:
        if request.json_file is not None:
            record.write_rows(request.json_file, rows)

    rows = loops.measure(
        entries, ways, device=device, seconds=seconds, threads=request.threads, backends=chosen, say=say, so_far=so_far
    )
    show(loops.table(rows))
    how = {"entries": [entry.to_json() for entry in entries], "seconds": seconds, "ablate": request.ablate,
           "backends": chosen}  # fmt: skip
    _keep(request, LOOP, machine.describe(device).to_json(), rows, how, say)
    return EXIT_FAILED_KERNEL if any(row["status"] == loops.FAILED for row in rows) else EXIT_OK


def _backends(texts: Sequence[str]) -> dict[str, str]:
    """OP=BACKEND, several times, as a mapping. Raises DeviceError for a name that is not there."""
    chosen = {}
    for text in texts:
        op, _, backend = text.partition("=")
        _known(op, kernels.KERNELS, "kernel")
        _known(backend, ("auto", *kernels.KERNELS[op]), f"backend of {op}")
        chosen[op] = backend
    return chosen


def _sensors(request: Request, show: Say, say: Say) -> int:
    """Training steps with and without the sampler beside them; --case names the model."""
    import torch

    from harness.bench import sampling
    from harness.checkpoints import model
    from harness.system import hardware as machine

    for name in request.cases:
        _known(name, ENTRIES, "entry")
    if request.threads:
        torch.set_num_threads(request.threads)
    device = _device(request.device)
    model.forbid_tf32()
    turns = QUICK_TURNS if request.quick else TURNS
    rows = [
        sampling.measure(**turns, device=device, entry=ENTRIES[name], say=say)
        for name in request.cases or (sampling.ENTRY,)
    ]
    for row in rows:
        show(f"{row['entry']}\n{sampling.text(row)}")
    _keep(request, SENSORS, machine.describe(device).to_json(), rows, dict(turns), say)
    return EXIT_OK


def _keep(
    request: Request,
    kind: str,
    machine: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    how: Mapping[str, Any],
    say: Say,
) -> None:
    if request.json_file is not None:
        record.write_rows(request.json_file, rows)
    say(f"record {record.write(request.results, kind, machine, rows, how)}")


def _device(name: str) -> str:
    import torch

    device = devices.resolve(name)
    if device.startswith("cuda") and (
        not torch.cuda.is_available() or (torch.device(device).index or 0) >= torch.cuda.device_count()
    ):
        seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise DeviceError(f"device {device} is not there: torch {torch.__version__} sees {seen} CUDA devices")
    return device


def _known(name: str, known: Sequence[str] | Mapping[str, Any], what: str) -> None:
    if name in known:
        return
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f"Did you mean '{close[0]}'?" if close else f"There are: {', '.join(known)}."
    raise DeviceError(f"{what} '{name}' is unknown. {hint}")
