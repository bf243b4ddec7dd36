"""A correct kernel is timed, a wrong one is not; the rows say what was measured and against what."""

from __future__ import annotations

import json
import sys
import types
from typing import Any

import pytest
import torch

import lm_kernels
from harness.timing import clocks
from harness.timing.backends import TWIN, Bench, KernelTiming
from harness.timing.clocks import Budget
from harness.timing.ops import BACKWARD, FORWARD, Work, disagreement, work
from lm_kernels.cases import Case, FoPoolCase, LstmCase, WeightDropCase
from lm_kernels.fo_pool import reference

pytestmark = pytest.mark.usefixtures("small_cache")

SMALL = FoPoolCase(4, 2, 3)
SMALL_LSTM = LstmCase(3, 2, 4, 5)


@pytest.fixture
def bench() -> Bench:
    return Bench(budget=Budget(seconds=0, minimum=2, maximum=2))


def available(rows: list[KernelTiming]) -> list[KernelTiming]:
    """Without the backends that this machine cannot run."""
    return [row for row in rows if row.status != "unavailable"]


def by_backend(rows: list[KernelTiming]) -> dict[tuple[str, str], KernelTiming]:
    return {(row.backend, row.direction): row for row in rows}


def add_backend(monkeypatch: pytest.MonkeyPatch, function: Any, **more: Any) -> list[str]:
    """Register the backend `added` of fo_pool for one test. Returns a log with one entry per call."""
    calls: list[str] = []

    def counted(*arguments: Any) -> Any:
        calls.append("added")
        return function(*arguments)

    module = types.ModuleType("added_backend")
    module.__dict__.update({"fo_pool": counted, **more})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    table = {**lm_kernels.KERNELS["fo_pool"], "added": f"{module.__name__}:fo_pool"}
    monkeypatch.setitem(lm_kernels.KERNELS, "fo_pool", table)
    return calls


@pytest.mark.parametrize(
    ("op", "case"), [("fo_pool", SMALL), ("lstm", SMALL_LSTM), ("weight_drop", WeightDropCase(30, 7, p=0.3))]
)
def test_every_backend_gets_a_row_per_direction(op: str, case: Case, bench: Bench) -> None:
    rows = bench.case(op, case)
    for backend in lm_kernels.KERNELS[op]:
        assert [row.direction for row in rows if row.backend == backend] == [FORWARD, BACKWARD]
    for row in available(rows):
        assert row.status == "ok"
        assert row.ms is not None
        assert row.bytes_moved is not None
        assert len(row.samples_ms or ()) == len(row.ratio_samples or ()) == 2
        assert row.gb_per_s == pytest.approx(row.bytes_moved / row.ms / 1e6)
        assert (row.flops is None) == (op != "lstm") == (row.share_of_gemm is None)
        assert row.ms_with_launch is row.share_exposed is row.samples_with_launch_ms is None
    json.dumps([row.to_json() for row in rows], allow_nan=False)


def test_shares_are_ratios_within_a_round(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """In slow rounds everything takes three times as long: only the share of the best triad falls."""
    slowness: list[float] = []

    def measured(candidates: Any, *_: Any, **__: Any) -> Any:
        return {(each.name, phase): [10 * slow for slow in slowness] for each in candidates for phase in each.phases}

    monkeypatch.setattr(clocks, "measure", measured)
    needed, ceilings = work(SMALL_LSTM, torch.float32)[FORWARD], bench.ceilings.work()
    for slowness[:], factor in (([1.0, 1.0, 3.0], 1), ([1.0, 3.0, 3.0], 3)):
        row = by_backend(bench.case("lstm", SMALL_LSTM))["fused", FORWARD]
        assert row.share_of_copy == pytest.approx(needed.bytes_moved / ceilings["copy"])
        assert row.share_of_triad == pytest.approx(needed.bytes_moved / ceilings["triad"])
        assert row.share_of_gemm == pytest.approx(needed.flops / ceilings["gemm"])
        assert row.share_of_best_triad == pytest.approx(row.share_of_triad / factor)


def test_the_comparison_is_the_chain_or_for_the_lstm_the_reference(bench: Bench) -> None:
    pooling = by_backend(bench.case("fo_pool", SMALL))
    assert pooling["chain", FORWARD].speedup_over_chain == 1
    assert pooling["reference", FORWARD].ratio_to_reference == 1
    dropping = by_backend(bench.case("weight_drop", WeightDropCase(9, 5)))
    assert (dropping["chain", BACKWARD].status, dropping["chain", BACKWARD].speedup_over_chain) == ("ok", 1)
    lstm = by_backend(bench.case("lstm", SMALL_LSTM))
    assert ("chain", FORWARD) not in lstm
    assert lstm["reference", BACKWARD].speedup_over_chain == 1


def _slightly_off(*arguments: Any) -> Any:
    h, c = reference.fo_pool(*arguments)
    return h * 1.001, c


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (_slightly_off, "h is off by"),
        (lambda g, c0, keep: (reference.fo_pool(g, c0)[0].double(), c0 * 1), "h is float64 (4, 2, 3)"),
        (lambda g, c0, keep: (reference.fo_pool(g, c0)[0][:2], c0 * 1), "h is float32 (2, 2, 3)"),
        (lambda g, c0, keep: (reference.fo_pool(g, c0)[0] * torch.nan, c0 * 1), "h is off by nan"),
        (
            lambda g, c0, keep: (reference.fo_pool(g.detach(), c0)[0], c0 * 1),
            "appears to not have been used",
        ),
        (lambda g, c0, keep: 1 / 0, "division by zero"),
        (lambda g, c0, keep: reference.fo_pool(g * 2 - g.detach(), c0, keep), "gradient of gates is off by"),
    ],
)
def test_a_wrong_kernel_is_reported_and_never_timed(
    function: Any, error: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = add_backend(monkeypatch, function)
    rows = by_backend(bench.case("fo_pool", SMALL))
    assert len(calls) == 1
    for direction in (FORWARD, BACKWARD):
        wrong = rows["added", direction]
        assert (wrong.status, wrong.ms) == ("failed", None)
        assert error in (wrong.error or "")
    assert rows["unrolled", FORWARD].status == "ok"


def test_a_backend_that_cannot_run_here_says_why(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = add_backend(monkeypatch, None, unavailable=lambda device: f"needs a GPU, not {device}")
    row = by_backend(bench.case("fo_pool", SMALL))["added", BACKWARD]
    assert not calls
    assert (row.status, "needs a GPU, not cpu" in (row.error or "")) == ("unavailable", True)


def test_only_the_backends_asked_for_are_timed(bench: Bench) -> None:
    bench.backends = ("unrolled",)
    assert {row.backend for row in bench.case("fo_pool", SMALL)} == {"unrolled", "chain"}


def test_the_reference_is_timed_twice_on_request(bench: Bench) -> None:
    bench.twin = True
    twins = [row for row in bench.case("lstm", SMALL_LSTM) if row.backend == TWIN]
    assert [len(row.ratio_samples or ()) for row in twins] == [2, 2]


def test_a_reference_that_fails_fails_every_row(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: Any) -> Any:
        raise RuntimeError("not enough memory: you tried to allocate 1 TB")

    monkeypatch.setattr(reference, "fo_pool", no_memory)
    rows = bench.case("fo_pool", SMALL)
    assert {row.status for row in available(rows)} == {"failed"}
    assert all("not enough memory" in (row.error or "") for row in rows)


def test_warm_times_are_absent_if_a_case_does_not_fit_the_cache(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(row.ms_warm is not None for row in available(bench.case("fo_pool", SMALL)))
    monkeypatch.setattr("harness.timing.backends.cache_bytes", lambda device: 1)
    assert all(row.ms_warm is None for row in bench.case("fo_pool", SMALL))


CELLS = 150 * 128 * 1024
PRODUCTS = 3 * 2 * (5 * 28 + 7 * 28)


@pytest.mark.parametrize(
    ("case", "dtype", "forward", "backward"),
    [
        # Five and eight values per cell
        (FoPoolCase(150, 128, 1024), torch.float32, Work(20 * CELLS, None), Work(32 * CELLS, None)),
        (FoPoolCase(150, 128, 1024), torch.bfloat16, Work(10 * CELLS, None), Work(16 * CELLS, None)),
        # A value in and a value out.
        (WeightDropCase(4000, 1000), torch.float32, Work(32_000_000, None), Work(32_000_000, None)),
        # Weights of 4 * 7 * (5 + 7 + 2), six rows of inputs and states; twice as many products backward.
        (LstmCase(3, 2, 5, 7), torch.float32, Work(4 * 464, 2 * PRODUCTS), Work(4 * 928, 4 * PRODUCTS)),
    ],
)
def test_work_counts_what_any_implementation_must_move_and_compute(
    case: Case, dtype: torch.dtype, forward: Work, backward: Work
) -> None:
    assert work(case, dtype) == {FORWARD: forward, BACKWARD: backward}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_are_compared_with_the_reference_as_well(dtype: torch.dtype, bench: Bench) -> None:
    bench.dtype = dtype
    rows = available(bench.case("fo_pool", FoPoolCase(9, 2, 5, keep=0.6)))
    assert {(row.status, row.dtype) for row in rows} == {("ok", str(dtype).removeprefix("torch."))}


def test_under_autocast_a_layer_may_round_every_product(bench: Bench) -> None:
    bench.autocast = torch.bfloat16
    assert {row.status for row in bench.case("lstm", LstmCase(12, 8, 12, 8))} == {"ok"}
    right = {"h": torch.ones(3)}
    assert disagreement({"h": torch.full((3,), 1.05)}, right, autocast=True) is None
    assert disagreement({"h": torch.full((3,), 1.2)}, right, autocast=True) is not None


def test_on_cuda_launches_are_timed_separately(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clocks without a device: 1 ms with every second sample exposed, and 3 ms with launches."""

    class Queued(clocks.QueuedCudaClock):
        def time(self, phase: Any, argument: Any) -> tuple[Any, float]:
            late = self.exposed.setdefault(phase, [])
            late.append(len(late) % 2 == 0)
            return phase(argument), 1.0

    class Launching(clocks.CudaClock):
        def time(self, phase: Any, argument: Any) -> tuple[Any, float]:
            return phase(argument), 3.0

    made = {False: Queued(torch.device("cpu")), True: Launching(torch.device("cpu"))}
    monkeypatch.setattr(clocks, "clock_for", lambda _, *, launches=False: made[launches])
    rows = available(bench.case("fo_pool", SMALL))
    assert rows
    for row in rows:
        assert (row.ms, row.ms_with_launch, row.share_exposed) == (1.0, 3.0, 0.5)
        assert row.samples_with_launch_ms == [3.0, 3.0]
