"""`harness bench` from its command line, with one tiny case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

import lm_kernels
from harness.bench import command
from harness.bench.steps import measure
from harness.bench.steps.entries import CHAIN, StepEntry
from harness.checkpoints import model as checkpoint_model
from harness.commands.main import main
from harness.regression import speed_ratios
from harness.timing.clocks import Budget, HostClock
from lm_kernels import cases
from lm_kernels.cases import FoPoolCase, LstmCase, WeightDropCase

pytestmark = pytest.mark.usefixtures("small_cache")

TINY = {
    "fo_pool": (FoPoolCase(4, 2, 3, timed=True), FoPoolCase(6, 1, 2)),
    "lstm": (LstmCase(3, 2, 4, 4, timed=True), LstmCase(10**4, 128, 10**3, 10**3, timed=True)),
    "weight_drop": (WeightDropCase(6, 5, timed=True),),
}


LOOP = ["loop", "--entry", "tiny-lstm-1x16"]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "CASES", TINY)
    monkeypatch.setattr(command, "QUICK_BUDGET", Budget(seconds=0, minimum=3, maximum=3))


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    def call(*arguments: object) -> Result:
        options = ["--device", "cpu", "--results", tmp_path / "results"]
        return CliRunner().invoke(main, ["bench", *(str(each) for each in (*arguments, *options))])

    return call


def test_rows_are_printed_and_written_with_a_record(bench: Any, tmp_path: Path) -> None:
    result = bench("--quick", "--json", tmp_path / "rows.json")
    assert result.exit_code == 0, result.output
    assert "T4-B2-H3" in result.stdout
    assert "T10000" not in result.stdout
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert {row["op"] for row in rows} == set(lm_kernels.KERNELS)
    assert {row["case"] for row in rows} == {"T4-B2-H3", "T3-B2-H4", "R6-C5-P0.5"}
    [path] = (tmp_path / "results" / "bench").iterdir()
    record = json.loads(path.read_text())
    assert record["rows"] == rows
    assert record["kind"] == "kernels"
    assert {"code", "machine", "written_at", "how", "schema"} <= set(record)
    assert record["machine"]["fingerprint"]
    assert path.name.endswith("Z.json")


def test_float32_is_measured_without_tf32(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(checkpoint_model, "forbid_tf32", lambda: calls.append(True))
    assert bench("weight_drop", "--quick").exit_code == 0
    assert calls == [True]


def test_a_named_case_is_timed_even_if_not_by_default(bench: Any) -> None:
    result = bench("fo_pool", "--quick", "--case", "T6-B1-H2")
    assert result.exit_code == 0
    assert "T6-B1-H2" in result.stdout
    assert "T4-B2-H3" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ablate"], "--ablate does not apply to the kernels benchmark"),
        (["fo_pool", "--backend", "lstm=nosuch"], "--backend does not apply to the kernels benchmark"),
        (["--speed", "nosuch"], "--speed does not apply to the kernels benchmark"),
        (["training", "--seconds", "10"], "--seconds does not apply to the training benchmark"),
        (["training", "--keep-memory"], "--keep-memory does not apply to the training benchmark"),
        (["loop", "--check", "x.json"], "--check does not apply to the loop benchmark"),
        (["--json", "."], ".: cannot be written: it is a folder"),
        (["--check", "x.json"], "x.json: there is no baseline; make one with --update"),
        (["fo_pol"], "kernel 'fo_pol' is unknown. Did you mean 'fo_pool'?"),
        (["triton"], "'triton' is a backend of fo_pool, weight_drop, not a kernel; name one of these instead"),
        (["weight_drop", "--case", "R6-C5"], "case 'R6-C5' is unknown. Did you mean 'R6-C5-P0.5'?"),
        (["fo_pool", "--case", "T4-B2-H4"], "case 'T4-B2-H4' is unknown. Did you mean 'T4-B2-H3'?"),
        (["training", "--case", "qrnn-4x265"], "entry 'qrnn-4x265' is unknown. Did you mean 'qrnn-4x256'?"),
        (["training", "fo_pool"], "bench training cannot be combined with"),
        (["training", "--dtype", "float64"], "measured in float32"),
        (["--update"], "--update writes a baseline"),
        (["--device", "gpu"], "device 'gpu' is unknown"),
        (["loop"], "name one with --entry: ptb-char-lstm-3x1000"),
        (["loop", "--entry", "enwik8-lstm"], "Did you mean 'enwik8-lstm-3x1840'?"),
        ([*LOOP, "--speed", "grph"], "Did you mean 'graph'?"),
        ([*LOOP, "--backend", "lstn=fused"], "Did you mean 'lstm'?"),
        ([*LOOP, "--backend", "lstm=triton"], "auto, fused, native, padded, reference"),
        ([*LOOP, "--backend", "fo_pool=native"], "none of tiny-lstm-1x16 uses"),
        ([*LOOP, "--backend", "lstm=fused", "--backend", "lstm=fused"], "--backend lstm is given twice"),
        ([*LOOP, "lstm"], "bench loop cannot be combined with"),
        ([*LOOP, "--dtype", "float64"], "float32, bfloat16 or float16"),
    ],
)
def test_bad_input_is_one_line_and_exit_two(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["bench", *arguments, "--results", str(tmp_path)])
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_wrong_kernel_is_exit_one_with_its_reason(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {**lm_kernels.KERNELS["fo_pool"], "broken": "lm_kernels.fo_pool.nowhere:fo_pool"}
    monkeypatch.setitem(lm_kernels.KERNELS, "fo_pool", table)
    monkeypatch.setattr(lm_kernels, "resolve", _resolve_or_raise(lm_kernels.resolve))
    result = bench("fo_pool", "--quick")
    assert result.exit_code == 1
    assert "fo_pool T4-B2-H3 broken: ZeroDivisionError in bench/test_bench_command.py:" in result.stdout
    updated = bench("fo_pool", "--quick", "--check", tmp_path / "baseline.json", "--update")
    assert updated.exit_code == 1
    assert "; 2 failed and were not updated" in updated.stdout


def _resolve_or_raise(resolve: Any) -> Any:
    def wrapped(op: str, name: str = "auto", device: str = "cpu") -> Any:
        return ("broken", lambda *_: 1 / 0) if name == "broken" else resolve(op, name, device)

    return wrapped


def test_every_verdict_of_the_gate(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Rounds of microseconds vary too much; this tests verdicts, not speeds.
    monkeypatch.setattr(HostClock, "time", lambda _, phase, given: (phase(given), 1.0))
    path = tmp_path / "baseline.json"
    assert bench("fo_pool", "--quick", "--check", path, "--update").exit_code == 0
    baseline = speed_ratios.read(path)
    assert "unrolled" in {row.backend for row in baseline.rows}
    assert {row.backend for row in baseline.rows} <= set(lm_kernels.KERNELS["fo_pool"]) - {"reference"}

    content = json.loads(path.read_text())
    for factor, status, verdict in ((1e3, 0, "improved"), (1e-3, 1, "regression")):
        rows = [{**row, "ratio": row["ratio"] * factor} for row in content["rows"]]
        path.write_text(json.dumps({**content, "rows": rows}))
        result = bench("fo_pool", "--quick", "--check", path)
        assert (result.exit_code, verdict in result.stdout) == (status, True)
    path.write_text(json.dumps({**content, "fingerprint": "Other CPU"}))
    skipped = bench("fo_pool", "--quick", "--check", path)
    assert skipped.exit_code == 0
    assert "other hardware" in skipped.stdout
    path.write_text("{")
    assert bench("fo_pool", "--quick", "--check", path).exit_code == 2


def test_training_writes_a_record(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = {"layers": 1, "hidden": 4, "embedding": 4}
    entry = StepEntry("tiny", "fo_pool", "qrnn", model, batch=2, bptt=3, vocab_size=5, quick=True)
    monkeypatch.setattr(command, "ENTRIES", {"tiny": entry})

    def measured(entry: StepEntry, **options: Any) -> list[measure.StepRow]:
        assert options["threads"] == torch.get_num_threads()
        return [measure.timed_row(entry, CHAIN, "cpu", {CHAIN: [1.0, 3.0]}, 5, None)]

    monkeypatch.setattr(measure, "measure_entry", measured)
    result = bench("training", "--quick", "--threads", torch.get_num_threads(), "--json", tmp_path / "rows.json")
    assert result.exit_code == 0, result.output
    assert "tiny" in result.stdout
    [row] = json.loads((tmp_path / "rows.json").read_text())
    assert (row["backend"], row["step_ms"], row["share_of_gemm"]) == (CHAIN, 2.0, None)
    [path] = (tmp_path / "results" / "bench").iterdir()
    assert json.loads(path.read_text())["kind"] == "training"


@pytest.mark.parametrize("option", ["--results", "--json", "--check"])
def test_a_target_that_cannot_be_written_is_one_line_before_the_work(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command.KernelBench, "run", None)
    (tmp_path / "file").write_text("hi")
    update = ["--update"] if option == "--check" else []
    arguments = ["bench", "fo_pool", "--device", "cpu", option, str(tmp_path / "file" / "below"), *update]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    expected = f"{tmp_path}/file/below: cannot be written: {tmp_path}/file is a file, not a folder"
    assert result.stderr == f"harness: {expected}\n"


def test_nothing_is_written_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, ["bench", "weight_drop", "--quick", "--device", "cpu"]).exit_code == 0
    assert list(tmp_path.iterdir()) == []
