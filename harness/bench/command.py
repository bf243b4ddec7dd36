"""The three benchmarks of `harness bench`: kernels, training steps and training loops."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lm_kernels
import lm_models
from harness.bench import record
from harness.bench.loops.entries import LOOPS
from harness.bench.steps.entries import BFLOAT16, DTYPES, ENTRIES, FLOAT32
from harness.bench.tables import FAILED
from harness.core import device as devices
from harness.core import messages
from harness.core.errors import DeviceError, HarnessError
from harness.timing.clocks import Budget

if TYPE_CHECKING:
    from harness.timing.backends import KernelTiming

KERNELS, TRAINING, LOOP = "kernels", "training", "loop"

# Limits on what the forward and backward pass of a case of `--quick` move and compute
QUICK_BYTES, QUICK_FLOPS = 64 << 20, 20e9

BUDGET = Budget(seconds=8.0, minimum=11, maximum=60, warmup=2)
# Fewer rounds: one of the largest layer and its reference takes almost a minute.
LSTM_BUDGET = Budget(seconds=8.0, minimum=7, maximum=60, warmup=2)
QUICK_BUDGET = Budget(seconds=1.0, minimum=7, maximum=40, warmup=2)
TRAINING_BUDGET = Budget(seconds=60.0, minimum=5, maximum=20, warmup=2)
QUICK_TRAINING_BUDGET = Budget(seconds=10.0, minimum=3, maximum=8, warmup=1)
LOOP_S, QUICK_LOOP_S = 10.0, 1.0

Print = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of `harness bench`.

    names: kernels, or one of `training` and `loop`; empty for all kernels. cases: names of cases or entries. seconds,
    speed, backends and ablate apply to the loop. show prints results, progress prints progress.
    """

    names: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    device: str = "auto"
    dtype: str = "float32"
    quick: bool = False
    threads: int | None = None
    results: Path | None = None
    json_file: Path | None = None
    keep_memory: bool = False
    speed: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    ablate: bool = False
    seconds: float | None = None
    show: Print = print
    progress: Print = print

    @property
    def kind(self) -> str:
        """KERNELS, TRAINING or LOOP. Raises DeviceError for an unknown name, HarnessError for an impossible mixture."""
        for name in self.names:
            ops = [op for op, backends in lm_kernels.KERNELS.items() if name in backends]
            if ops:
                raise DeviceError(f"'{name}' is a backend of {', '.join(ops)}, not a kernel; name one of these instead")
            _check_known([name], (*lm_kernels.KERNELS, TRAINING, LOOP), "kernel")
        for kind in (TRAINING, LOOP):
            if kind in self.names:
                if len(self.names) > 1:
                    raise HarnessError(f"bench {kind} cannot be combined with other kernels")
                return kind
        return KERNELS

    def save(self, kind: str, rows: Sequence[Any], **settings: object) -> None:
        """Write the rows to `--json` and a record to `--results`, as far as they are given. Raises StoreError."""
        from harness.system import hardware

        if self.json_file is not None:
            record.write_rows(self.json_file, rows)
        if self.results is not None:
            machine = hardware.describe(_existing(self.device))
            self.progress(f"record {record.write(self.results, kind, machine, rows, settings)}")


class KernelBench:
    """The kernel benchmark of one request on one device.

    Args:
        request: names, cases, dtype and device.
        twin: also time the reference a second time in each round, which the speed gate needs.

    Raises:
        DeviceError: a case or the device does not exist.
    """

    def __init__(self, request: Request, *, twin: bool = False) -> None:
        import torch

        from harness.checkpoints import model
        from harness.system import hardware
        from harness.system.processes import keep_freed_memory
        from harness.timing.backends import Bench

        self.request = request
        self.ops = request.names or tuple(lm_kernels.KERNELS)
        self.cases = plan(self.ops, request.cases, quick=request.quick)
        device = _existing(request.device)
        model.forbid_tf32()
        if request.threads:
            torch.set_num_threads(request.threads)
        self.fingerprint = hardware.describe(device).fingerprint
        self._keeps_memory = request.keep_memory and keep_freed_memory()
        self._bench = Bench(device=device, dtype=getattr(torch, request.dtype), twin=twin)

    def run(self) -> list[KernelTiming]:
        """Measure every case, print the table and write the record. Raises StoreError."""
        from harness.report import kernel_table

        rows = [row for op, case in self.cases for row in self.measure(op, case.name)]
        self.request.show(kernel_table([row.to_json() for row in rows]))
        self.request.save(
            KERNELS,
            rows,
            names=self.ops,
            quick=self.request.quick,
            dtype=self.request.dtype,
            freed_memory_kept=self._keeps_memory,
            budget={op: asdict(budget_of(op, quick=self.request.quick)) for op in self.ops},
        )
        return rows

    def measure(self, op: str, case_name: str) -> list[KernelTiming]:
        """Measure one of the planned cases: two rows per backend, forward and backward."""
        self.request.progress(f"{op} {case_name}")
        case = next(case for planned, case in self.cases if (planned, case.name) == (op, case_name))
        self._bench.budget = budget_of(op, quick=self.request.quick)
        return self._bench.case(op, case)


def any_failed(rows: Iterable[Any]) -> bool:
    """Whether a row is of a kernel that gave wrong results or of a process that failed."""
    return any(row.status == FAILED for row in rows)


def budget_of(op: str, *, quick: bool) -> Budget:
    """How long each case of an op is measured."""
    if quick:
        return QUICK_BUDGET
    return LSTM_BUDGET if op == "lstm" else BUDGET


def plan(ops: Sequence[str], names: Sequence[str], *, quick: bool) -> list[tuple[str, Any]]:
    """List the measurements to make.

    Args:
        ops: kernels.
        names: cases; none for all timed ones.
        quick: leave out large cases, unless they are named.

    Returns:
        (op, case), in the order of `lm_kernels.cases.CASES`.

    Raises:
        DeviceError: no op has a case of that name.
    """
    from lm_kernels.cases import CASES

    _check_known(names, [case.name for op in ops for case in CASES[op]], "case")
    if names:
        return [(op, case) for op in ops for case in CASES[op] if case.name in names]
    return [(op, case) for op in ops for case in CASES[op] if case.timed and (not quick or _is_quick(case))]


def _is_quick(case: Any) -> bool:
    import torch

    from harness.timing.ops import work, working_set_bytes

    flops = sum(part.flops or 0 for part in work(case, torch.float32).values())
    return working_set_bytes(case, torch.float32) <= QUICK_BYTES and flops <= QUICK_FLOPS


def run_training(request: Request) -> bool:
    """Time training steps, print the table and write the record. Returns whether every participant succeeded."""
    from harness.bench.steps.measure import measure_entry, step_table

    _check_known(request.cases, ENTRIES, "entry")
    if request.dtype not in (FLOAT32, BFLOAT16):
        raise DeviceError(f"bench training is measured in float32 or bfloat16, not {request.dtype}")
    device = _existing(request.device)
    entries = [ENTRIES[name] for name in request.cases] or [
        entry for entry in ENTRIES.values() if entry.quick or not request.quick
    ]
    budget = QUICK_TRAINING_BUDGET if request.quick else TRAINING_BUDGET
    rows = [
        row
        for entry in entries
        for row in measure_entry(
            entry,
            device=device,
            budget=budget,
            threads=request.threads,
            names=DTYPES if request.dtype == BFLOAT16 else None,
            progress=request.progress,
        )
    ]
    request.show(step_table(rows))
    if request.threads:
        # The record describes this process, which has measured nothing itself.
        import torch

        torch.set_num_threads(request.threads)
    how = {
        "entries": list(map(asdict, entries)),
        "quick": request.quick,
        "budget": asdict(budget),
        "dtype": request.dtype,
    }
    request.save(TRAINING, rows, **how)
    return not any_failed(rows)


def run_loop(request: Request) -> bool:
    """Time training loops, print the table and write the record. Returns whether every variant succeeded."""
    from harness.bench.loops.measure import loop_table, measure
    from harness.bench.loops.variants import variants
    from harness.core.config.speed import Speed

    if not request.cases:
        raise HarnessError(f"bench loop runs full-size models: name one with --entry: {', '.join(LOOPS)}")
    _check_known(request.cases, LOOPS, "entry")
    switches = [field.name for field in fields(Speed)]
    _check_known(request.speed, switches, "switch")
    if request.dtype == "float64":
        raise DeviceError("bench loop is measured in float32, bfloat16 or float16")
    device = _existing(request.device)
    speed = Speed(**{name: name in request.speed or getattr(Speed(), name) for name in switches})
    entries = [LOOPS[name] for name in request.cases]
    seconds = request.seconds or (QUICK_LOOP_S if request.quick else LOOP_S)
    backends = parse_backends(request.backends)
    if unused := backends.keys() - {lm_models.KERNEL_OPS[entry.builder] for entry in entries}:
        raise DeviceError(f"--backend {min(unused)}: none of {', '.join(request.cases)} uses this kernel")
    rows = measure(
        entries,
        variants(request.dtype, speed, device, ablate=request.ablate),
        device=device,
        seconds=seconds,
        threads=request.threads,
        backends=backends,
        progress=request.progress,
        # Hours of measurements survive an interruption.
        on_row=partial(record.write_rows, request.json_file) if request.json_file else lambda rows: None,
    )
    request.show(loop_table(rows))
    how = {"entries": list(map(asdict, entries)), "seconds": seconds, "ablate": request.ablate, "backends": backends}
    request.save(LOOP, rows, **how)
    return not any_failed(rows)


def parse_backends(texts: Sequence[str]) -> dict[str, str]:
    """Parse `KERNEL=BACKEND` options into a mapping. Raises DeviceError for an unknown name."""
    backends = {}
    for text in texts:
        op, _, backend = text.partition("=")
        _check_known([op], lm_kernels.KERNELS, "kernel")
        _check_known([backend], ("auto", *lm_kernels.KERNELS[op]), f"backend of {op}")
        if op in backends:
            raise DeviceError(f"--backend {op} is given twice")
        backends[op] = backend
    return backends


def _existing(name: str) -> str:
    """Resolve `auto|cpu|cuda[:i]` to a device of this machine. Raises DeviceError if it does not exist."""
    from harness.checkpoints.model import check_exists

    device = devices.resolve(name)
    check_exists(device)
    return device


def _check_known(names: Iterable[str], known: Sequence[str] | Mapping[str, Any], kind: str) -> None:
    for name in names:
        if name not in known:
            raise DeviceError(f"{kind} '{name}' is unknown.{messages.near(name, known)}")
