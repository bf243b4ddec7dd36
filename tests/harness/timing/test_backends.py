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
from lm_kernels.cases import Case, FoPoolCase, LstmCase, WeightDropCase, half_tolerance
from lm_kernels.fo_pool import reference
from lm_kernels.lstm import reference as lstm_reference

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


def add_backend(monkeypatch: pytest.MonkeyPatch, function: Any, op: str = "fo_pool", **more: Any) -> list[str]:
    """Register the backend `added` of an op for one test. Returns a log with one entry per call."""
    calls: list[str] = []

    def counted(*arguments: Any) -> Any:
        calls.append("added")
        return function(*arguments)

    module = types.ModuleType("added_backend")
    module.__dict__.update({op: counted, **more})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    table = {**lm_kernels.KERNELS[op], "added": f"{module.__name__}:{op}"}
    monkeypatch.setitem(lm_kernels.KERNELS, op, table)
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


HALF: tuple[dict[str, torch.dtype], ...] = ({"dtype": torch.bfloat16}, {"autocast": torch.bfloat16})
HALF_NAMES = ("bfloat16", "autocast")


@pytest.mark.parametrize("how", [*HALF, {"dtype": torch.float16}], ids=[*HALF_NAMES, "float16"])
@pytest.mark.parametrize("case", [LstmCase(1, 1, 1, 1), LstmCase(12, 8, 17, 33)])
def test_layers_in_half_precision_differ_from_float32_by_their_roundings(
    case: LstmCase, how: dict[str, torch.dtype], bench: Bench
) -> None:
    bench.__dict__.update(how)
    rows = available(bench.case("lstm", case))
    assert {(row.backend, row.error) for row in rows if row.status != "ok"} == set()


def test_h_has_the_dtype_of_its_inputs_in_half_precision(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    add_backend(monkeypatch, lambda g, c0, keep: reference.fo_pool(g.float(), c0, keep))
    bench.dtype = torch.bfloat16
    row = by_backend(bench.case("fo_pool", SMALL))["added", FORWARD]
    assert (row.status, row.error) == ("failed", "h is float32, the inputs are bfloat16")


def test_the_bound_in_half_precision_is_a_number_of_roundings() -> None:
    """(4 + sqrt(T)) 2^-8 of the maximum, in bfloat16; dtypes may differ."""
    allowed = half_tolerance(LstmCase(100, 3, 5, 7), torch.bfloat16)
    right = {"h": torch.tensor([2.0, 0.0])}
    for error, accepted in ((27.9 / 256, True), (28.1 / 256, False), (float("nan"), False)):
        wrong = {"h": torch.tensor([2.0, error], dtype=torch.float64)}
        assert (disagreement(wrong, right, allowed) is None) == accepted
    assert half_tolerance(LstmCase(100, 3, 5, 7), torch.float16).relative == allowed.relative / 8


def _gates_swapped(x: Any, h: Any, c: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any) -> Any:
    """Input and forget gate of the last hidden unit alone."""
    hidden = h.shape[1]
    order = torch.arange(4 * hidden)
    order[[hidden - 1, 2 * hidden - 1]] = order[[2 * hidden - 1, hidden - 1]]
    return lstm_reference.lstm(x, h, c, w_ih[order], w_hh[order], b_ih[order], b_hh[order])


def _cell_not_carried(x: Any, h: Any, c: Any, *weights: Any) -> Any:
    """The cell is lost once, in the middle."""
    first, h, c = lstm_reference.lstm(x[:6], h, c, *weights)
    second, h, c = lstm_reference.lstm(x[6:], h, c * 0, *weights)
    return torch.cat([first, second]), h, c


def _h_not_carried(x: Any, h: Any, c: Any, *weights: Any) -> Any:
    first, h, c = lstm_reference.lstm(x[:6], h, c, *weights)
    second, h, c = lstm_reference.lstm(x[6:], h * 0, c, *weights)
    return torch.cat([first, second]), h, c


def _gradient_of_time_dropped(x: Any, h: Any, c: Any, *weights: Any) -> Any:
    """Truncated in the middle: right outputs, and gradients of the second half alone."""
    first, h, c = lstm_reference.lstm(x[:6], h, c, *weights)
    second, h, c = lstm_reference.lstm(x[6:], h.detach(), c.detach(), *weights)
    return torch.cat([first, second]), h, c


def _gradient_of_last_step_dropped(x: Any, h: Any, c: Any, w_ih: Any, *weights: Any) -> Any:
    first, h, c = lstm_reference.lstm(x[:-1], h, c, w_ih, *weights)
    second, h, c = lstm_reference.lstm(x[-1:], h, c, w_ih.detach(), *weights)
    return torch.cat([first, second]), h, c


@pytest.mark.parametrize("how", HALF, ids=HALF_NAMES)
@pytest.mark.parametrize(
    ("function", "error"),
    [
        (_gates_swapped, "h_TBH is off by"),
        (_cell_not_carried, "h_TBH is off by"),
        (_h_not_carried, "h_TBH is off by"),
        (_gradient_of_time_dropped, "gradient of "),
        (_gradient_of_last_step_dropped, "gradient of weight_ih is off by"),
    ],
)
def test_planted_errors_of_a_layer_are_found_in_half_precision(
    function: Any, error: str, how: dict[str, torch.dtype], bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_backend(monkeypatch, function, op="lstm")
    bench.__dict__.update(how)
    rows = by_backend(bench.case("lstm", LstmCase(12, 8, 12, 16)))
    assert rows["added", FORWARD].status == rows["added", BACKWARD].status == "failed"
    assert error in (rows["added", FORWARD].error or "")
    assert rows["fused", FORWARD].status == "ok"


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
