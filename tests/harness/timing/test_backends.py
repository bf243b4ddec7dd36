"""A right kernel is timed, a wrong one is not; the rows say what was measured and against what."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import asdict
from typing import Any

import pytest
import torch

import kernels
from harness.timing import clocks, ops
from harness.timing.backends import TWIN, Bench, KernelTiming
from harness.timing.clocks import Budget
from harness.timing.ops import BACKWARD, FORWARD, Work, work
from kernels.cases import FoPoolCase, LstmCase, WeightDropCase
from kernels.fo_pool import reference

SMALL = FoPoolCase(4, 2, 3)


def measured(rows: list[KernelTiming]) -> list[KernelTiming]:
    """Without the backends that this machine cannot run."""
    return [row for row in rows if row.status != "unavailable"]


@pytest.fixture
def bench() -> Bench:
    return Bench(budget=Budget(seconds=0, minimum=2, maximum=2), array_bytes=1 << 16, gemm=8)


def add_backend(monkeypatch: pytest.MonkeyPatch, name: str, function: Any, **more: Any) -> list[str]:
    """Register a backend for one test. Returns a log with one entry per call."""
    calls: list[str] = []

    def counted(*arguments: Any) -> Any:
        calls.append(name)
        return function(*arguments)

    module = types.ModuleType(f"{name}_backend")
    module.__dict__.update({"fo_pool": counted, **more})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    table = {**kernels.KERNELS["fo_pool"], name: f"{module.__name__}:fo_pool"}
    monkeypatch.setitem(kernels.KERNELS, "fo_pool", table)
    return calls


@pytest.mark.parametrize(("op", "case"), [
    ("fo_pool", SMALL), ("lstm", LstmCase(3, 2, 4, 5)), ("weight_drop", WeightDropCase(30, 7, p=0.3)),
])  # fmt: skip
def test_every_backend_gets_a_row_per_direction(op: str, case: Any, bench: Bench) -> None:
    rows = bench.case(op, case)
    for backend in kernels.KERNELS[op]:
        mine = [row for row in rows if row.backend == backend]
        assert [row.direction for row in mine] == [FORWARD, BACKWARD]
    for row in measured(rows):
        assert row.status == "ok"
        assert len(row.samples_ms) == len(row.ratio_samples) == 2
        assert row.gb_per_s == pytest.approx(row.bytes_moved / row.ms / 1e6)
        assert row.share_of_best_triad == pytest.approx(row.gb_per_s / row.triad_gb_per_s)
        assert (row.flops is None) == (op != "lstm") == (row.share_of_gemm is None)
    json.dumps([asdict(row) for row in rows], allow_nan=False)


def test_shares_are_ratios_inside_a_round(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine slows to a third for one round of three: shares stay, the one of the best triad falls behind."""
    pace = [1.0, 1.0, 3.0]

    def measured(candidates: Any, *_: Any, **__: Any) -> Any:
        return {(each.name, phase): [10 * slow for slow in pace] for each in candidates for phase in each.phases}

    monkeypatch.setattr(clocks, "measure", measured)
    row = next(row for row in bench.case("lstm", LstmCase(3, 2, 4, 5)) if row.backend == "fused")
    amount, ceilings = work(LstmCase(3, 2, 4, 5), torch.float32)[FORWARD], bench.ceilings.work()
    assert row.share_of_copy == pytest.approx(amount.bytes_moved / ceilings["copy"])
    assert row.share_of_triad == pytest.approx(amount.bytes_moved / ceilings["triad"])
    assert row.share_of_gemm == pytest.approx(amount.flops / ceilings["gemm"])
    pace[:] = [1.0, 3.0, 3.0]
    row = next(row for row in bench.case("lstm", LstmCase(3, 2, 4, 5)) if row.backend == "fused")
    assert row.share_of_triad == pytest.approx(amount.bytes_moved / ceilings["triad"])
    assert row.share_of_best_triad == pytest.approx(row.share_of_triad / 3)


def test_the_comparison_is_the_chain_for_pooling_and_the_steps_for_the_lstm(bench: Bench) -> None:
    pooling = {(row.backend, row.direction): row for row in bench.case("fo_pool", SMALL)}
    assert pooling["chain", FORWARD].speedup_over_chain == 1
    assert pooling["reference", FORWARD].ratio_to_reference == 1
    dropping = {(row.backend, row.direction): row for row in bench.case("weight_drop", WeightDropCase(9, 5))}
    assert dropping["chain", BACKWARD].status == "ok"
    assert dropping["chain", BACKWARD].speedup_over_chain == 1
    lstm = {(row.backend, row.direction): row for row in bench.case("lstm", LstmCase(3, 2, 4, 5))}
    assert ("chain", FORWARD) not in lstm
    assert lstm["reference", BACKWARD].speedup_over_chain == 1


def test_a_wrong_kernel_is_reported_and_never_timed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def slightly_off(*arguments: Any) -> Any:
        h, c = reference.fo_pool(*arguments)
        return h * 1.001, c

    calls = add_backend(monkeypatch, "wrong", slightly_off)
    rows = [row for row in bench.case("fo_pool", SMALL) if row.backend == "wrong"]
    assert len(calls) == 1
    assert [row.status for row in rows] == ["failed"] * 2
    assert all(row.error.startswith("h is off by") and row.ms is None for row in rows)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda g, c0, keep: (reference.fo_pool(g, c0)[0].double(), c0 * 1), "h is float64 (4, 2, 3)"),
        (lambda g, c0, keep: (reference.fo_pool(g, c0)[0][:2], c0 * 1), "h is float32 (2, 2, 3)"),
        (lambda g, c0, keep: (reference.fo_pool(g, c0)[0] * torch.nan, c0 * 1), "h is off by nan"),
        (lambda g, c0, keep: (reference.fo_pool(g.detach(), c0)[0], c0 * 1), "RuntimeError"),
        (lambda g, c0, keep: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_every_way_to_be_wrong_has_its_words(
    function: Any, said: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_backend(monkeypatch, "wrong", function)
    rows = bench.case("fo_pool", SMALL)
    wrong = next(row for row in rows if row.backend == "wrong")
    assert said in wrong.error
    assert any(row.backend == "unrolled" and row.status == "ok" for row in rows)


def test_a_wrong_gradient_is_found_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def scaled(gates: torch.Tensor, c0: torch.Tensor, keep: Any) -> Any:
        return reference.fo_pool(gates * 2 - gates.detach(), c0, keep)

    add_backend(monkeypatch, "wrong", scaled)
    wrong = next(row for row in bench.case("fo_pool", SMALL) if row.backend == "wrong")
    assert wrong.error.startswith("gradient of gates is off by")


def test_a_backend_that_cannot_run_here_says_why(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = add_backend(monkeypatch, "elsewhere", None, unavailable=lambda device: f"needs a GPU, not {device}")
    rows = [row for row in bench.case("fo_pool", SMALL) if row.backend == "elsewhere"]
    assert not calls
    assert [row.status for row in rows] == ["unavailable"] * 2
    assert "needs a GPU, not cpu" in rows[0].error


def test_only_the_backends_asked_for_are_timed(bench: Bench) -> None:
    bench.backends = ("unrolled",)
    assert {row.backend for row in bench.case("fo_pool", SMALL)} == {"unrolled", "chain"}


def test_the_reference_stands_against_itself_where_a_gate_asks_for_it(bench: Bench) -> None:
    bench.twin = True
    twins = [row for row in bench.case("lstm", LstmCase(3, 2, 4, 5)) if row.backend == TWIN]
    assert [len(row.ratio_samples) for row in twins] == [2, 2]


def test_a_reference_that_fails_fails_every_row(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: Any) -> Any:
        raise RuntimeError("not enough memory: you tried to allocate 1 TB")

    monkeypatch.setattr(reference, "fo_pool", no_memory)
    rows = bench.case("fo_pool", SMALL)
    assert {row.status for row in measured(rows)} == {"failed"}
    assert all("not enough memory" in row.error for row in rows)


def test_warm_times_are_absent_where_a_case_does_not_fit_the_cache(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(row.ms_warm is not None for row in measured(bench.case("fo_pool", SMALL)))
    monkeypatch.setattr("harness.timing.backends.cache_bytes", lambda device: 1)
    assert all(row.ms_warm is None for row in bench.case("fo_pool", SMALL))


def test_work_of_pooling_is_five_and_eight_values_per_cell() -> None:
    cells = 150 * 128 * 1024
    full = work(FoPoolCase(150, 128, 1024), torch.float32)
    assert full == {FORWARD: Work(20 * cells, None), BACKWARD: Work(32 * cells, None)}
    half = work(FoPoolCase(150, 128, 1024), torch.bfloat16)
    assert half == {FORWARD: Work((3 * 2 + 2 * 4) * cells, None), BACKWARD: Work((6 * 2 + 2 * 4) * cells, None)}


def test_work_of_weight_dropout_is_a_value_in_and_a_value_out() -> None:
    both = work(WeightDropCase(4000, 1000), torch.float32)
    assert both == {FORWARD: Work(32_000_000, None), BACKWARD: Work(32_000_000, None)}


def test_work_of_an_lstm_counts_both_products_and_twice_as_many_backward() -> None:
    found = work(LstmCase(3, 2, 5, 7), torch.float32)
    products = 3 * 2 * (5 * 28 + 7 * 28)
    assert (found[FORWARD].flops, found[BACKWARD].flops) == (2 * products, 4 * products)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_are_held_to_the_reference_as_well(dtype: torch.dtype, bench: Bench) -> None:
    bench.dtype = dtype
    rows = measured(bench.case("fo_pool", FoPoolCase(9, 2, 5, keep=0.6)))
    assert {row.status for row in rows} == {"ok"}
    assert {row.dtype for row in rows} == {str(dtype).removeprefix("torch.")}


def test_under_autocast_a_layer_may_round_every_product(bench: Bench) -> None:
    bench.autocast = torch.bfloat16
    assert {row.status for row in bench.case("lstm", LstmCase(12, 8, 12, 8))} == {"ok"}
    right = {"h": torch.ones(3)}
    assert ops.disagreement({"h": torch.full((3,), 1.05)}, right, autocast=True) is None
    assert ops.disagreement({"h": torch.full((3,), 1.2)}, right, autocast=True) is not None


def test_on_a_cuda_device_launches_are_left_out_and_told_beside(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks that need no device: one says 1 ms and every second time that the host was late, the other 3 ms."""

    class Queued(clocks.QueuedCudaClock):
        def time(self, phase: Any, given: Any) -> tuple[Any, float]:
            late = self.exposed.setdefault(phase, [])
            late.append(len(late) % 2 == 0)
            return phase(given), 1.0

    class Launching(clocks.CudaClock):
        def time(self, phase: Any, given: Any) -> tuple[Any, float]:
            return phase(given), 3.0

    place = torch.device("cpu")
    made = {False: Queued(place), True: Launching(place)}
    monkeypatch.setattr(clocks, "clock_for", lambda _, *, launches=False: made[launches])
    for row in bench.case("fo_pool", SMALL):
        if row.status == "ok":
            assert (row.ms, row.ms_with_launch, row.share_exposed) == (1.0, 3.0, 0.5)
            assert row.samples_with_launch_ms == [3.0, 3.0]
            assert row.clock == "cuda event, launched before"
    monkeypatch.undo()
    absent = [row for row in bench.case("fo_pool", SMALL) if row.status == "ok"]
    assert absent
    for row in absent:
        assert row.ms_with_launch is row.share_exposed is row.samples_with_launch_ms is None
