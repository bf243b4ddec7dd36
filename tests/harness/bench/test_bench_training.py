"""Whole steps in processes of their own: real ones of a tiny model, and participants that fail."""

from __future__ import annotations

import io
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

import kernels
import models
from harness.bench.steps import gemms, trainee, training
from harness.bench.steps.entries import CHAIN, ENTRIES, GEMMS, NN_LSTM, Entry
from harness.bench.steps.training import TraineeError, measure_entry, participants
from harness.checkpoints import model as kept
from harness.timing.clocks import Budget
from kernels.lstm import reference as lstm_reference

QRNN = Entry("tiny", "fo_pool", "qrnn", {"layers": 2, "hidden": 12, "embedding": 8}, batch=3, bptt=5, vocab_size=9)
LSTM = Entry(
    "tiny", "lstm", "awd-lstm", {"layers": 2, "hidden": 12, "embedding": 8, "dropout": {"weight": 0.5}},
    batch=3, bptt=5, vocab_size=9,
)  # fmt: skip
BUDGET = Budget(seconds=0, minimum=2, maximum=2)
PROMISED = {"entry", "backend", "tokens_per_s", "speedup_over_chain", "share_of_gemm", "peak_rss_bytes"}


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a trainee registers in its own process goes away with the test."""
    for op, backends in kernels.KERNELS.items():
        monkeypatch.setitem(kernels.KERNELS, op, dict(backends))


def config_of(entry: Entry) -> Any:
    return TypeAdapter(models.config_class(entry.builder)).validate_python(dict(entry.model))


def test_real_processes_take_turns_and_report_their_own_memory() -> None:
    """One of them cannot build its model and leaves a row with the reason."""
    names = [CHAIN, "nonesuch", GEMMS]
    [row, broken] = measure_entry(QRNN, device="cpu", budget=BUDGET, threads=1, names=names)
    assert set(row) == set(broken) >= PROMISED
    assert (row["status"], row["error"], len(row["samples_ms"])) == ("ok", None, 2)
    assert row["tokens_per_s"] == pytest.approx(15 / row["step_ms"] * 1e3)
    assert row["peak_rss_bytes"] > 50e6
    assert row["share_of_gemm"] > 0
    assert row["speedup_over_chain"] == 1
    assert (broken["status"], broken["tokens_per_s"]) == ("failed", None)
    assert "fo_pool backend 'nonesuch' is unknown" in broken["error"]
    json.dumps([row, broken], allow_nan=False)


def test_a_folder_named_models_where_one_stands_is_not_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models.py").write_text("raise ImportError('not yours')")
    monkeypatch.chdir(tmp_path)
    [row] = measure_entry(QRNN, device="cpu", budget=BUDGET, threads=1, names=[CHAIN])
    assert (row["status"], row["error"]) == ("ok", None)


class Fake:
    """A trainee without a process."""

    script: dict[str, Any] = {}

    def __init__(self, entry: Entry, participant: str, **_: Any) -> None:
        self.participant, self.steps = participant, 0
        self.losses: list[float | None] = []

    def start(self) -> None:
        return

    def ready(self) -> dict[str, Any]:
        return {"num_parameters": 7, "clock": "told"}

    def step(self) -> float:
        milliseconds, loss = self.script[self.participant]
        self.steps += 1
        if milliseconds is None and self.steps > 1:
            raise TraineeError(self.participant, "ended with status -9")
        self.losses.append(loss)
        return float(milliseconds or 1)

    def end(self) -> dict[str, Any]:
        return {"peak_rss_bytes": 5, "peak_device_bytes": None}

    def close(self) -> None:
        return


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Any:
    def measured(script: dict[str, Any], entry: Entry = QRNN) -> dict[str, dict[str, Any]]:
        monkeypatch.setattr(training, "Trainee", Fake)
        monkeypatch.setattr(Fake, "script", script)
        found = measure_entry(entry, device="cpu", budget=BUDGET, names=list(script))
        return {row["backend"]: row for row in found}

    return measured


def test_speeds_are_ratios_within_a_round(rows: Any) -> None:
    found = rows({CHAIN: (30.0, 2.0), "fast": (15.0, 2.0005), GEMMS: (12.0, None)})
    assert found["fast"]["speedup_over_chain"] == 2
    assert found["fast"]["share_of_gemm"] == 0.8
    assert found["fast"]["tokens_per_s"] == pytest.approx(1000)
    assert found["fast"]["peak_rss_bytes"] == 5
    assert found["fast"]["clock"] == "told"


def test_one_that_dies_is_left_out_and_the_others_start_over(rows: Any) -> None:
    found = rows({CHAIN: (30.0, 2.0), "dies": (None, 2.0), "fast": (15.0, 2.0)})
    assert (found["dies"]["status"], found["dies"]["error"]) == ("failed", "ended with status -9")
    assert (found["fast"]["status"], found["fast"]["share_of_gemm"]) == ("ok", None)


def test_a_backend_that_cannot_run_here_is_not_started(rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = types.ModuleType("elsewhere_backend")
    elsewhere.unavailable = lambda device: "needs a GPU"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "elsewhere_backend", elsewhere)
    table = {**kernels.KERNELS["fo_pool"], "elsewhere": "elsewhere_backend:fo_pool"}
    monkeypatch.setitem(kernels.KERNELS, "fo_pool", table)
    found = rows({CHAIN: (30.0, 2.0), "elsewhere": (1.0, 2.0)})
    assert found["elsewhere"]["status"] == "unavailable"
    assert "needs a GPU" in found["elsewhere"]["error"]
    assert found[CHAIN]["status"] == "ok"


def test_one_that_trains_another_model_is_wrong_however_fast(rows: Any) -> None:
    found = rows({CHAIN: (30.0, 2.0), "fast": (1.0, 2.1)})
    assert found["fast"]["status"] == "failed"
    assert "loss is 2.1 nats, that of chain is 2" in found["fast"]["error"]
    assert found["fast"]["tokens_per_s"] is None


def test_lstm_backends_are_held_to_one_another_and_not_to_layers_that_drop_nothing(rows: Any) -> None:
    found = rows({NN_LSTM: (30.0, 3.0), "padded": (1.0, 2.1), "fused": (2.0, 2.0), GEMMS: (1.0, None)}, LSTM)
    assert {name: row["status"] for name, row in found.items()} == {NN_LSTM: "ok", "padded": "failed", "fused": "ok"}
    assert "loss is 2.1 nats, that of fused is 2" in found["padded"]["error"]
    alike = rows({NN_LSTM: (30.0, 3.0), "padded": (1.0, 2.0005), "fused": (2.0, 2.0)}, LSTM)
    assert {row["status"] for row in alike.values()} == {"ok"}


def test_a_participant_computes_float32_as_float32(table: None, monkeypatch: pytest.MonkeyPatch) -> None:
    job = {"entry": QRNN.to_json(), "participant": CHAIN, "device": "cpu", "threads": None}
    asked: list[bool] = []
    monkeypatch.setattr(kept, "forbid_tf32", lambda: asked.append(True))
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{json.dumps(job)}\nend\n"))
    replies: list[Any] = []
    trainee._serve(replies.append)
    assert replies[0]["ready"]
    assert replies[0]["clock"] == "perf_counter_ns in each process"
    assert asked == [True]


@pytest.mark.parametrize("entry", [QRNN, LSTM])
def test_recorded_products_are_three_times_the_forward_flops(entry: Entry, table: None) -> None:
    """The config's own count, forward once and backward twice, is the independent word on it."""
    kernels.KERNELS["lstm"][gemms.HOLLOW] = "harness.bench.steps.gemms:hollow_lstm"
    model = trainee.build(entry, gemms.HOLLOW if entry.op == "lstm" else "reference", "cpu")
    products = gemms.record(trainee.training_step(model, entry, "cpu"))
    forward = config_of(entry).forward_flops_per_token(entry.vocab_size) * entry.tokens_per_step
    assert sum(product.flops for product in products) == 3 * forward
    gemms.replay(products, "cpu")()


def test_a_hollow_layer_has_the_shapes_of_the_real_one_and_a_gradient_for_every_input() -> None:
    shapes = [(4, 2, 3), (2, 5), (2, 5), (20, 3), (20, 5), (20,), (20,)]
    given = [torch.randn(shape, requires_grad=True) for shape in shapes]
    hollow, real = gemms.hollow_lstm(*given), lstm_reference.lstm(*given)
    assert [part.shape for part in hollow] == [part.shape for part in real]
    gradients = torch.autograd.grad(hollow[0].sum() + hollow[2].sum(), given)
    assert [gradient.shape for gradient in gradients] == [value.shape for value in given]


def test_the_comparison_of_the_lstm_is_of_the_same_size_and_learns() -> None:
    plain, dropped = (trainee.build(LSTM, name, "cpu") for name in (NN_LSTM, "fused"))
    sizes = [sum(parameter.numel() for parameter in model.parameters()) for model in (plain, dropped)]
    assert sizes[0] == sizes[1] == config_of(LSTM).num_parameters(LSTM.vocab_size)
    step = trainee.training_step(plain, LSTM, "cpu")
    losses = [float(step()) for _ in range(60)]
    assert losses[-1] < losses[0]


def test_the_chain_is_no_backend_anywhere_else() -> None:
    assert all(CHAIN not in backends for backends in kernels.KERNELS.values())


def test_entries_are_the_four_sizes_and_run_every_backend_but_the_reference() -> None:
    sizes = {name: (e.model["layers"], e.model["hidden"], e.model["embedding"], e.batch, e.bptt)
             for name, e in ENTRIES.items()}  # fmt: skip
    assert sizes == {
        "qrnn-4x256": (4, 256, 64, 32, 100),
        "qrnn-6x1024": (6, 1024, 128, 32, 70),
        "lstm-2x256": (2, 256, 64, 32, 100),
        "lstm-3x1000": (3, 1000, 200, 32, 70),
    }
    for entry in ENTRIES.values():
        names = participants(entry)
        assert names[0] in (CHAIN, NN_LSTM)
        assert names[-1] == GEMMS
        assert set(names[1:-1]) == set(kernels.KERNELS[entry.op]) - {"reference"}


def test_peak_memory_is_of_this_process() -> None:
    before = trainee.peak_rss_bytes()
    held = bytearray(60_000_000)
    held[::4096] = b"x" * len(held[::4096])
    assert trainee.peak_rss_bytes() >= before
    assert trainee.peak_rss_bytes() > 60_000_000
