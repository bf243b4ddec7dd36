"""The two recorded checkpoints of the official code, and what a user may get wrong."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from official_objects import criterion, language_model, lstm, lstm_weights, optimizer
from pickle_assembler import Call, Global, Persistent, Writer

from harness.checkpoints.awd_lstm_lm import vocabulary
from harness.checkpoints.awd_lstm_lm.container import Container
from harness.checkpoints.awd_lstm_lm.importing import import_checkpoint
from harness.checkpoints.model import load as load_model
from harness.commands.main import main
from harness.core.errors import CheckpointError, DataError
from harness.data import prepare
from harness.evaluation import scoring
from harness.suite import load, resolve
from harness.system import source
from harness.worker.main import Job, run

CASES = {"lstm_char": ("ptb-char-cut", "bpc"), "qrnn_word_splits": ("ptb-word-cut", "perplexity")}


@pytest.fixture
def legacy() -> Path:
    folder = Path(os.environ.get("HARNESS_FIXTURES", "")) / "legacy"
    if not os.environ.get("HARNESS_FIXTURES") or not folder.is_dir():
        pytest.skip("the official code's checkpoints are not in HARNESS_FIXTURES")
    return folder


def harness(*words: object) -> Any:
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


@pytest.mark.parametrize("name", CASES)
def test_every_figure_the_official_code_says_of_itself_is_ours(legacy: Path, tmp_path: Path, name: str) -> None:
    folder, metric = CASES[name]
    recorded = json.loads((legacy / f"{name}.json").read_text())
    out = tmp_path / "imported"
    done = harness("import", "official", legacy / f"{name}.pt", "--data", legacy / folder, "--out", out, "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.output)
    assert said["vocabulary"] == recorded["vocab"]
    assert [said["model"][key] for key in ("layers", "hidden", "embedding")] == [
        recorded[key] for key in ("nlayers", "nhid", "emsize")
    ]
    assert said["model"].get("cutoffs", []) == recorded["splits"]

    def scored(*options: object) -> dict[str, Any]:
        text = legacy / folder / "test.txt"
        run = harness("evaluate", out, "--text", text, "--device", "cpu", "--json", *options)
        assert run.exit_code == 0, run.output
        return dict(json.loads(run.stdout))

    exact, ten, one = scored(), *(scored("--protocol", "official", "--batch", batch) for batch in (10, 1))
    assert exact["num_targets"] == exact.num_units == recorded["exact_predictions"]
    assert exact.nll_nats == pytest.approx(recorded["exact_nll_nats"], rel=1e-6)
    assert exact.nll_nats / exact.num_units == pytest.approx(recorded["exact_nats_per_token"], rel=1e-6)
    assert ten["nll_nats"] / ten["num_units"] == pytest.approx(recorded["official_eval_loss_batch10"], rel=1e-6)
    assert one.nll_nats / one.num_units == pytest.approx(recorded["official_eval_loss_batch1"], rel=1e-6)
    rate = one.nll_nats / one.num_units / np.log(2)
    assert rate == pytest.approx(recorded["official_bpc_batch1"], rel=1e-6)
    assert list(exact["metrics"]) == [metric]
    assert scored("--window", 7)["nll_nats"] == pytest.approx(exact.nll_nats, rel=1e-6)
    assert vocabulary.read(legacy / folder) == recorded["words"]


SUITE = """
suite: imported
dataset: {{kind: words, name: cut, folder: {folder}, vocabulary: first-appearance, unit: {unit}}}
metrics: [{metric}]
evaluation: {{protocols: [exact, official], splits: [test]}}
entries:
  imported:
    model: {model}
    checkpoint: {out}
"""


@pytest.mark.parametrize("name", CASES)
def test_a_suites_entry_scores_an_imported_checkpoint(legacy: Path, tmp_path: Path, name: str) -> None:
    folder, metric = CASES[name]
    recorded = json.loads((legacy / f"{name}.json").read_text())
    imported = import_checkpoint(legacy / f"{name}.pt", legacy / folder, tmp_path / "out")
    text = SUITE.format(
        unit="char" if metric == "bpc" else "word",
        folder=legacy / folder,
        metric=metric,
        model=json.dumps(imported.model),
        out=tmp_path / "out",
    )
    (tmp_path / "suite.yaml").write_text(text)
    suite = load(tmp_path / "suite.yaml")
    [spec] = resolve(suite, device="cpu")
    job = Job(spec, prepare(suite.dataset), tmp_path / "results", source.installed().to_json())
    record = run(job, tmp_path / "results" / "run", lambda event: None, lambda: False)
    assert record.error is None
    exact, one = [score.tally for score in record.scores]
    assert exact.nll_nats / exact.num_units == pytest.approx(recorded["exact_nats_per_token"], rel=1e-6)
    assert one.nll_nats / one.num_units == pytest.approx(recorded["official_eval_loss_batch1"], rel=1e-6)
    assert record.spec.checkpoint_sha256 == imported.sha256
    found = harness("evaluate", tmp_path / "out", "--dataset", tmp_path / "suite.yaml", "--device", "cpu", "--json")
    assert json.loads(found.stdout)["nll_nats"] == pytest.approx(exact.nll_nats, rel=1e-7)


def small_model(writer: Writer, vocab_size: int) -> list[Any]:
    rng = np.random.default_rng(0)
    layers = [lstm(writer, lstm_weights(rng, 4, 4), drop=0.5)]
    embedding = rng.normal(size=(vocab_size, 4)).astype(np.float32)
    return [
        language_model(writer, layers, embedding, np.zeros(vocab_size, np.float32)),
        criterion(writer, []),
        optimizer(),
    ]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six tokens with <eos>; a blank line is an <eos> of its own."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.txt").write_text("the cat sat\n\n")
    (folder / "valid.txt").write_text("the dog sat\n")
    (folder / "test.txt").write_text("the cat ran")
    return folder


def test_words_stand_in_the_order_of_their_first_appearance(data: Path) -> None:
    assert vocabulary.read(data) == ["the", "cat", "sat", "<eos>", "dog", "ran"]


def test_an_imported_model_is_scored_on_text_and_its_unknown_words_are_named(data: Path, tmp_path: Path) -> None:
    writer = Writer()
    file, out = writer.zipped(tmp_path / "m.pt", small_model(writer, 6)), tmp_path / "out"
    imported = import_checkpoint(file, data, out)
    assert imported.model["hidden"] == 7, (
        "a single tied layer is as wide as the embedding; the model says what it was told"
    )
    found = scoring.run(scoring.Request(model=load_model(out, device="cpu"), text=data / "train.txt"))
    assert (found["num_targets"], found["protocol"], found["unit"]) == (4, "exact", "word")
    assert found["origin"]["sha256"] == imported.origin["sha256"]
    (tmp_path / "new.txt").write_text("the cat sat\na cat sat\n")
    refused = harness("evaluate", out, "--text", tmp_path / "new.txt")
    assert refused.exit_code == 2
    assert "1 tokens are not in the checkpoint's vocabulary of 6: 'a' (line 2)" in refused.stderr
    taken = harness("evaluate", out, "--text", tmp_path / "new.txt", "--unknown", "dog", "--json")
    assert json.loads(taken.stdout)["text"]["num_unknown"] == 1


def refused(*words: object) -> str:
    run = harness("import", "official", *words)
    assert run.exit_code == 2
    assert run.stdout == ""
    [line] = run.stderr.splitlines()
    return str(line)


def test_what_does_not_fit_is_told_in_one_line(data: Path, tmp_path: Path) -> None:
    writer = Writer()
    file, out = writer.legacy(tmp_path / "m.pt", small_model(writer, 7)), tmp_path / "out"
    assert "knows 7 tokens, and" in refused(file, "--data", data, "--out", out)
    assert "cannot be read: No such file" in refused(tmp_path / "none.pt", "--data", data, "--out", out)
    assert "cannot be read" in refused(tmp_path, "--data", data, "--out", out)
    (data / "valid.txt").write_bytes(b"the\n\xff\n")
    assert "valid.txt: not UTF-8 near line" in refused(file, "--data", data, "--out", out)
    (data / "valid.txt").unlink()
    assert "lacks valid.txt" in refused(file, "--data", data, "--out", out)
    assert not out.exists()


def test_a_hostile_file_is_refused_by_name_and_nothing_of_it_is_run(data: Path, tmp_path: Path) -> None:
    mark, writer = tmp_path / "owned", Writer()
    system = Call(Global("posix", "system"), (f"touch {mark}",))
    root = small_model(writer, 6)
    root[2].state["defaults"] = {"lr": Call(Global("collections", "OrderedDict"), ([["x", system]],))}
    for path in (writer.legacy(tmp_path / "a.pt", root), writer.zipped(tmp_path / "b.pt", root)):
        line = refused(path, "--data", data, "--out", tmp_path / "out")
        assert "names posix.system, which no official checkpoint has a use for; nothing in it was run" in line
    assert not mark.exists()
    assert not (tmp_path / "out").exists()


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.booleans(), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=3))
def test_changed_bytes_are_a_checkpoint_or_one_refusal(
    data: Path, tmp_path: Path, legacy: bool, changes: list[tuple[float, int]]
) -> None:
    writer = Writer(sources=legacy)
    file = (writer.legacy if legacy else writer.zipped)(tmp_path / "m.pt", small_model(writer, 6))
    raw = bytearray(file.read_bytes())
    for where, value in changes:
        raw[int(where * (len(raw) - 1))] = value
    file.write_bytes(raw)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    with suppress(CheckpointError):
        import_checkpoint(file, data, tmp_path / "out")


@pytest.mark.parametrize("cutoffs", [[3, 2], [2, 2], [2, 6], [0, 3]])
def test_cutoffs_that_do_not_fit_are_one_line(data: Path, tmp_path: Path, cutoffs: list[int]) -> None:
    writer = Writer()
    root = small_model(writer, 6)
    root[1] = criterion(writer, cutoffs, (np.zeros((2, 4), np.float32), np.zeros(2, np.float32)))
    line = refused(writer.legacy(tmp_path / "m.pt", root), "--data", data, "--out", tmp_path / "out")
    assert "holds a model that cannot be built" in line
    assert "cutoffs" in line


def test_another_checkpoint_is_never_overwritten(data: Path, tmp_path: Path) -> None:
    writer, out = Writer(), tmp_path / "out"
    first = writer.zipped(tmp_path / "a.pt", small_model(writer, 6))
    second = writer.legacy(tmp_path / "b.pt", small_model(writer, 6))
    once = import_checkpoint(first, data, out)
    assert import_checkpoint(first, data, out) == once
    with pytest.raises(CheckpointError, match="already holds another checkpoint"):
        import_checkpoint(second, data, out)


def test_a_tensor_of_another_shape_is_refused(data: Path, tmp_path: Path) -> None:
    writer = Writer()
    root = small_model(writer, 6)
    weights = lstm_weights(np.random.default_rng(0), 4, 4)
    weights["bias_hh"] = weights["bias_hh"][:8]
    root[0] = language_model(
        writer, [lstm(writer, weights, drop=0.5)], np.zeros((6, 4), np.float32), np.zeros(6, np.float32)
    )
    with pytest.raises(CheckpointError, match=r"layers\.0\.bias_hh has shape \(8,\), and its model needs \(16,\)"):
        import_checkpoint(writer.zipped(tmp_path / "m.pt", root), data, tmp_path / "out")


def test_what_does_not_fit_is_told_before_any_number_is_read(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwanted(*_: object) -> None:
        raise AssertionError("numbers were read")

    monkeypatch.setattr(Container, "array", unwanted)
    writer = Writer()
    root = small_model(writer, 6)
    weights = {"weight_ih": (16, 4), "weight_hh": (16, 4), "bias_ih": (16,), "bias_hh": (8,)}
    layer = lstm(writer, {name: np.zeros(shape, np.float32) for name, shape in weights.items()}, drop=None)
    root[0] = language_model(writer, [layer], np.zeros((6, 4), np.float32), np.zeros(6, np.float32))
    with pytest.raises(CheckpointError, match=r"bias_hh has shape \(8,\)"):
        import_checkpoint(writer.zipped(tmp_path / "m.pt", root), data, tmp_path / "out")
    writer = Writer()
    with pytest.raises(CheckpointError, match=r"knows 7 tokens, and .* holds 6"):
        import_checkpoint(writer.zipped(tmp_path / "n.pt", small_model(writer, 7)), data, tmp_path / "out")


def test_a_model_larger_than_its_file_is_not_even_sketched(data: Path, tmp_path: Path) -> None:
    """A zip file's storages are claims until they are read: here of 64 billion numbers."""
    writer = Writer()
    root = small_model(writer, 6)
    huge = Call(
        Global("torch._utils", "_rebuild_tensor_v2"),
        (
            Persistent(("storage", Global("torch", "FloatStorage"), "huge", "cpu", 1 << 36)),
            0, (1 << 20, 1 << 16), (1 << 16, 1), False, Call(Global("collections", "OrderedDict"), ()),
        ),
    )  # fmt: skip
    weights = {**lstm_weights(np.random.default_rng(0), 4, 4), "weight_hh": np.zeros((16, 4), np.float32)}
    layers = [lstm(writer, weights, drop=None), lstm(writer, weights, drop=None)]
    for layer in layers:
        layer.state["_parameters"]["weight_hh_l0"] = huge
    root[0] = language_model(writer, layers, np.zeros((6, 4), np.float32), np.zeros(6, np.float32))
    line = refused(writer.zipped(tmp_path / "m.pt", root), "--data", data, "--out", tmp_path / "out")
    assert "parameters, more than" in line


@pytest.mark.parametrize("option", ["--data", "--out"])
def test_a_name_that_no_system_takes_is_one_line(data: Path, tmp_path: Path, option: str) -> None:
    writer = Writer()
    paths = {"--data": data, "--out": tmp_path / "out", option: tmp_path / ("x" * 300)}
    file = writer.zipped(tmp_path / "m.pt", small_model(writer, 6))
    line = refused(file, *(word for pair in paths.items() for word in pair))
    assert "File name too long" in line


def test_a_missing_folder_is_a_missing_split(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lacks train\.txt"):
        vocabulary.read(tmp_path / "nowhere")


def test_the_fixtures_data_lacking_a_split_is_one_line(legacy: Path, tmp_path: Path) -> None:
    shutil.copytree(legacy / "ptb-char-cut", tmp_path / "data")
    (tmp_path / "data").chmod(0o755)
    (tmp_path / "data" / "test.txt").unlink()
    assert "lacks test.txt" in refused(legacy / "lstm_char.pt", "--data", tmp_path / "data", "--out", tmp_path / "out")
