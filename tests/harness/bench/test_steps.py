"""Training steps in child processes: real ones of a tiny model, and participants that fail."""

from __future__ import annotations

import json
import math
import sys
import types
from dataclasses import asdict
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

import lm_kernels
import lm_models
from harness.bench import memory
from harness.bench.steps import child, measure, products
from harness.bench.steps.entries import (
    BFLOAT16,
    BFLOAT16_GEMMS,
    CHAIN,
    ENTRIES,
    FLOAT32,
    GEMMS,
    NN_LSTM,
    StepEntry,
    StepJob,
)
from harness.bench.steps.measure import ParticipantError, StepRow, measure_entry, step_table
from harness.checkpoints import model as checkpoint_model
from harness.timing.clocks import Budget
from lm_kernels.lstm import reference as lstm_reference

QRNN = StepEntry("tiny", "fo_pool", "qrnn", {"layers": 2, "hidden": 12, "embedding": 8}, batch=3, bptt=5, vocab_size=9)
LSTM = StepEntry(
    "tiny", "lstm", "awd-lstm", {"layers": 2, "hidden": 12, "embedding": 8, "dropout": {"weight": 0.5}},
    batch=3, bptt=5, vocab_size=9,
)  # fmt: skip
BUDGET = Budget(seconds=0, minimum=2, maximum=2)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo the backends that a child registers in its own process."""
    for op, backends in lm_kernels.KERNELS.items():
        monkeypatch.setitem(lm_kernels.KERNELS, op, dict(backends))


def config_of(entry: StepEntry) -> Any:
    return TypeAdapter(lm_models.config_class(entry.builder)).validate_python(dict(entry.model))


def test_real_processes_take_turns_and_one_that_fails_has_a_row() -> None:
    names = [CHAIN, "nonesuch"]
    row, broken = rows = measure_entry(QRNN, device="cpu", budget=BUDGET, threads=1, names=names)
    assert (row.status, row.error, len(row.samples_ms)) == ("ok", None, 2)
    assert row.step_ms
    assert row.tokens_per_s == pytest.approx(15 / row.step_ms * 1e3)
    assert row.peak_rss_bytes
    assert row.peak_rss_bytes > 50e6
    assert row.speedup_over_chain == 1
    assert (broken.status, broken.tokens_per_s) == ("failed", None)
    assert "fo_pool backend 'nonesuch' is unknown" in str(broken.error)
    json.dumps([asdict(each) for each in rows], allow_nan=False)


class FakeProcess:
    """A StepProcess that replays (milliseconds, loss); None milliseconds: dies in the second step."""

    script: dict[str, tuple[float | None, float | None]] = {}

    def __init__(self, job: StepJob) -> None:
        self.participant = job.participant
        self.losses: list[float | None] = []

    def ready(self) -> None:
        return

    def step(self) -> float:
        milliseconds, loss = self.script[self.participant]
        if milliseconds is None and self.losses:
            raise ParticipantError(self.participant, "ended with status -9")
        self.losses.append(loss)
        return milliseconds or 1

    def end(self) -> tuple[int, None]:
        return 5, None

    def close(self) -> None:
        return


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    def measured(script: dict[str, Any], entry: StepEntry = QRNN) -> dict[str, StepRow]:
        monkeypatch.setattr(measure, "StepProcess", FakeProcess)
        monkeypatch.setattr(FakeProcess, "script", script)
        return {row.backend: row for row in measure_entry(entry, device="cpu", budget=BUDGET, names=list(script))}

    return measured


def test_speeds_are_ratios_within_a_round(run: Any) -> None:
    fast = run({CHAIN: (30.0, 2.0), "fast": (15.0, 2.0005), GEMMS: (12.0, None)})["fast"]
    assert (fast.speedup_over_chain, fast.share_of_gemm) == (2, 0.8)
    assert fast.tokens_per_s == pytest.approx(1000)
    assert fast.peak_rss_bytes == 5


def test_dtypes_are_compared_with_float32_and_must_begin_with_its_loss(run: Any) -> None:
    products = {GEMMS: (24.0, None), BFLOAT16_GEMMS: (9.0, None)}
    rows = run({FLOAT32: (30.0, 2.0), BFLOAT16: (15.0, 2.001), **products}, LSTM)
    assert (rows[FLOAT32].speedup_over_chain, rows[BFLOAT16].speedup_over_chain) == (1, 2)
    assert {name: row.share_of_gemm for name, row in rows.items()} == {FLOAT32: 0.8, BFLOAT16: 0.6}
    assert run({FLOAT32: (30.0, 2.0), BFLOAT16: (15.0, 2.01)})[BFLOAT16].status == "failed"


@pytest.mark.parametrize("entry", [QRNN, LSTM])
def test_a_step_in_bfloat16_multiplies_in_bfloat16_and_keeps_its_weights_in_float32(entry: StepEntry) -> None:
    losses = []
    for participant in (FLOAT32, BFLOAT16):
        model = child.build(entry, participant, "cpu")
        losses.append(float(child.training_step(model, entry, "cpu", bfloat16=participant == BFLOAT16)()))
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=measure.LOSS_TOLERANCE)


def test_the_others_start_again_without_a_participant_that_dies(run: Any) -> None:
    rows = run({CHAIN: (30.0, 2.0), "dies": (None, 2.0), "fast": (15.0, 2.0)})
    assert (rows["dies"].status, rows["dies"].error) == ("failed", "ended with status -9")
    assert (rows["fast"].status, rows["fast"].share_of_gemm) == ("ok", None)


def test_a_backend_that_cannot_run_here_is_not_started(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = types.ModuleType("elsewhere_backend")
    elsewhere.unavailable = lambda device: "needs a GPU"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "elsewhere_backend", elsewhere)
    backends = {**lm_kernels.KERNELS["fo_pool"], "elsewhere": "elsewhere_backend:fo_pool"}
    monkeypatch.setitem(lm_kernels.KERNELS, "fo_pool", backends)
    rows = run({CHAIN: (30.0, 2.0), "elsewhere": (1.0, 2.0)})
    assert rows["elsewhere"].status == "unavailable"
    assert "needs a GPU" in rows["elsewhere"].error
    assert rows[CHAIN].status == "ok"


@pytest.mark.parametrize("loss", [2.1, math.nan])
def test_a_participant_whose_loss_differs_fails_however_fast(loss: float, run: Any) -> None:
    row = run({CHAIN: (30.0, 2.0), "fast": (1.0, loss)})["fast"]
    assert (row.status, row.tokens_per_s) == ("failed", None)
    assert f"loss is {loss} nats, that of chain is 2" in row.error


def test_lstm_backends_are_compared_with_each_other_and_not_with_layers_without_weight_drop(run: Any) -> None:
    rows = run({NN_LSTM: (30.0, 3.0), "padded": (1.0, 2.1), "fused": (2.0, 2.0), GEMMS: (1.0, None)}, LSTM)
    assert {name: row.status for name, row in rows.items()} == {NN_LSTM: "ok", "padded": "failed", "fused": "ok"}
    assert "loss is 2.1 nats, that of fused is 2" in rows["padded"].error
    similar = run({NN_LSTM: (30.0, 3.0), "padded": (1.0, 2.0005), "fused": (2.0, 2.0)}, LSTM)
    assert {row.status for row in similar.values()} == {"ok"}


@pytest.mark.parametrize(("participant", "has_loss"), [(CHAIN, True), (GEMMS, False), (BFLOAT16_GEMMS, False)])
def test_a_child_computes_float32_without_tf32(
    participant: str, has_loss: bool, registry: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = StepJob(entry=QRNN, participant=participant, device="cpu", threads=None)
    calls: list[bool] = []
    monkeypatch.setattr(checkpoint_model, "forbid_tf32", lambda: calls.append(True))
    replies: list[Any] = []
    child.serve([json.dumps(asdict(job)), "step\n", "end\n"], replies.append)
    ready, (milliseconds, loss), (peak_rss_bytes, peak_device_bytes) = replies
    assert (ready, milliseconds > 0, loss is not None) == (None, True, has_loss)
    assert (peak_rss_bytes > 50e6, peak_device_bytes) == (True, None)
    assert calls == [True]


@pytest.mark.parametrize("entry", [QRNN, LSTM])
def test_recorded_products_are_three_times_the_forward_flops(entry: StepEntry, registry: None) -> None:
    """Forward once and backward twice; the config's own count is independent of the recording."""
    lm_kernels.KERNELS["lstm"][products.PLACEHOLDER] = "harness.bench.steps.products:placeholder_lstm"
    model = child.build(entry, products.PLACEHOLDER if entry.op == "lstm" else "reference", "cpu")
    recorded = products.record(child.training_step(model, entry, "cpu"))
    forward = config_of(entry).forward_flops_per_token(entry.vocab_size) * entry.tokens_per_step
    assert sum(product.flops for product in recorded) == 3 * forward
    products.replay(recorded, "cpu")()


def test_the_placeholder_has_the_shapes_of_a_layer_and_a_gradient_for_every_input() -> None:
    shapes = [(4, 2, 3), (2, 5), (2, 5), (20, 3), (20, 5), (20,), (20,)]
    given = [torch.randn(shape, requires_grad=True) for shape in shapes]
    placeholder, real = products.placeholder_lstm(*given), lstm_reference.lstm(*given)
    assert [part.shape for part in placeholder] == [part.shape for part in real]
    of_symbols = products.placeholder_lstm(torch.tensor([[0, 2]] * 4), *given[1:])
    assert [part.shape for part in of_symbols] == [part.shape for part in real]
    gradients = torch.autograd.grad(placeholder[0].sum() + placeholder[2].sum(), given)
    assert [gradient.shape for gradient in gradients] == [value.shape for value in given]


def test_the_comparison_of_the_lstm_has_the_same_size_and_learns() -> None:
    plain, dropped = (child.build(LSTM, name, "cpu") for name in (NN_LSTM, "fused"))
    sizes = [sum(parameter.numel() for parameter in model.parameters()) for model in (plain, dropped)]
    assert sizes[0] == sizes[1] == config_of(LSTM).num_parameters(LSTM.vocab_size)
    step = child.training_step(plain, LSTM, "cpu")
    losses = [float(step()) for _ in range(60)]
    assert losses[-1] < losses[0]


def test_entries_are_the_six_sizes_and_run_every_backend_but_the_reference() -> None:
    sizes = {name: (e.model["layers"], e.model["hidden"], e.model["embedding"], e.batch, e.bptt)
             for name, e in ENTRIES.items()}  # fmt: skip
    assert sizes == {
        "qrnn-4x256": (4, 256, 64, 32, 100),
        "qrnn-2x512": (2, 512, 512, 16, 64),
        "qrnn-6x1024": (6, 1024, 128, 32, 70),
        "lstm-2x256": (2, 256, 64, 32, 100),
        "lstm-1x512": (1, 512, 512, 16, 50),
        "lstm-3x1000": (3, 1000, 200, 32, 70),
    }
    for entry in ENTRIES.values():
        comparison, *backends, last = entry.participants
        assert (comparison in (CHAIN, NN_LSTM), last) == (True, GEMMS)
        assert set(backends) == set(lm_kernels.KERNELS[entry.op]) - {"reference"}
    assert all(CHAIN not in backends for backends in lm_kernels.KERNELS.values()), "the chain is no backend elsewhere"


def test_the_table_shows_tokens_per_second_and_the_reason_of_a_failure(run: Any) -> None:
    text = step_table(list(run({CHAIN: (30.0, 2.0), "dies": (None, 2.0), GEMMS: (21.3, None)}).values()))
    good, bad = ([cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:4])
    assert good == ["tiny", "chain", "500", "1.00", "71%", "0"]
    assert bad[:3] == ["tiny", "dies", "failed"]
    assert "tiny dies: ended with status -9" in text


def test_peak_memory_is_that_of_this_process() -> None:
    before = memory.peak_rss_bytes()
    held = bytearray(60_000_000)
    held[::4096] = b"x" * len(held[::4096])
    assert memory.peak_rss_bytes() >= before
    assert memory.peak_rss_bytes() > 60_000_000
