"""Import of the two recorded checkpoints of the official code, and refusals of files, data and folders."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from official_files import Call, Global, Persistent, Writer, criterion, language_model, lstm, lstm_weights, optimizer

from harness.checkpoints.awd_lstm_lm.importer import import_checkpoint, read_vocabulary
from harness.checkpoints.awd_lstm_lm.torch_file import TorchFile
from harness.checkpoints.model import load as load_model
from harness.commands.main import main
from harness.core.errors import CheckpointError, DataError
from harness.data import prepare
from harness.evaluation import scoring
from harness.suite import load, resolve
from harness.system import source
from harness.worker.execute import run
from harness.worker.job import RunJob

CASES = {"lstm_char": ("ptb-char-cut", "bpc"), "qrnn_word_splits": ("ptb-word-cut", "perplexity")}


@pytest.fixture
def legacy() -> Path:
    folder = Path(os.environ.get("HARNESS_FIXTURES", "")) / "legacy"
    if not os.environ.get("HARNESS_FIXTURES") or not folder.is_dir():
        pytest.skip("the official code's checkpoints are not in HARNESS_FIXTURES")
    return folder


def harness(*words: object) -> Any:
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


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
def test_every_recorded_figure_of_the_official_code_is_reproduced(legacy: Path, tmp_path: Path, name: str) -> None:
    folder, metric = CASES[name]
    recorded = json.loads((legacy / f"{name}.json").read_text())
    out = tmp_path / "imported"
    done = harness("import", "official", legacy / f"{name}.pt", "--data", legacy / folder, "--out", out, "--json")
    assert done.exit_code == 0, done.output
    imported = json.loads(done.output)
    assert imported["vocabulary"] == recorded["vocab"]
    sizes = [imported["model"][key] for key in ("layers", "hidden", "embedding")]
    assert sizes == [recorded[key] for key in ("nlayers", "nhid", "emsize")]
    assert imported["model"].get("cutoffs", []) == recorded["splits"]
    assert read_vocabulary(legacy / folder) == recorded["words"]

    def scored(*options: object) -> dict[str, Any]:
        run = harness("evaluate", out, "--device", "cpu", "--json", *options)
        assert run.exit_code == 0, run.output
        return dict(json.loads(run.stdout))

    text = ("--text", legacy / folder / "test.txt")
    exact, ten, one = scored(*text), *(scored(*text, "--protocol", "official", "--batch", size) for size in (10, 1))
    assert exact["num_targets"] == exact["num_units"] == recorded["exact_predictions"]
    assert exact["nll_nats"] == pytest.approx(recorded["exact_nll_nats"], rel=1e-6)
    assert exact["nll_nats"] / exact["num_units"] == pytest.approx(recorded["exact_nats_per_token"], rel=1e-6)
    assert ten["nll_nats"] / ten["num_units"] == pytest.approx(recorded["official_eval_loss_batch10"], rel=1e-6)
    assert one["nll_nats"] / one["num_units"] == pytest.approx(recorded["official_eval_loss_batch1"], rel=1e-6)
    bits = one["nll_nats"] / one["num_units"] / np.log(2)
    assert bits == pytest.approx(recorded["official_bpc_batch1"], rel=1e-6)
    assert list(exact["metrics"]) == [metric]
    assert scored(*text, "--window", 7)["nll_nats"] == pytest.approx(exact["nll_nats"], rel=1e-6)

    # The same checkpoint as an entry of a suite, and through the suite's dataset.
    (tmp_path / "suite.yaml").write_text(
        SUITE.format(
            unit="char" if metric == "bpc" else "word",
            folder=legacy / folder,
            metric=metric,
            model=json.dumps(imported["model"]),
            out=out,
        )
    )
    suite = load(tmp_path / "suite.yaml")
    [spec] = resolve(suite, device="cpu")
    results, code = tmp_path / "results", source.installed()
    job = RunJob(spec=spec, prepared=prepare(suite.dataset), results=results, code=code, sensors=False)
    record = run(job, results / "run", lambda event: None, lambda: False)
    assert record.error is None
    assert record.spec.checkpoint_sha256 == imported["sha256"]
    tallies = [score.tally for score in record.scores]
    assert [tally.nll_nats for tally in tallies] == pytest.approx([exact["nll_nats"], one["nll_nats"]], rel=1e-7)
    assert [tally.num_units for tally in tallies] == [exact["num_units"], one["num_units"]]
    by_dataset = scored("--dataset", tmp_path / "suite.yaml")
    assert by_dataset["nll_nats"] == pytest.approx(exact["nll_nats"], rel=1e-7)


VOCAB, WIDTH = 6, 4


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six tokens with <eos>; a blank line is an <eos> too."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.txt").write_text("the cat sat\n\n")
    (folder / "valid.txt").write_text("the dog sat\n")
    (folder / "test.txt").write_text("the cat ran")
    return folder


def objects(writer: Writer, vocab_size: int = VOCAB, **shapes: tuple[int, ...]) -> list[Any]:
    """[model, criterion, optimizer] with one LSTM layer; shapes: of its weights, where they should be wrong."""
    weights = lstm_weights(np.random.default_rng(0), WIDTH, WIDTH)
    weights |= {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    embedding = np.random.default_rng(1).normal(size=(vocab_size, WIDTH)).astype(np.float32)
    layers = [lstm(writer, weights, drop=0.5)]
    model = language_model(writer, layers, embedding, np.zeros(vocab_size, np.float32))
    return [model, criterion(writer, []), optimizer()]


def official_file(path: Path, vocab_size: int = VOCAB, **shapes: tuple[int, ...]) -> Path:
    writer = Writer()
    return writer.zipped(path, objects(writer, vocab_size, **shapes))


def refusal(file: Path, data: Path, out: Path) -> str:
    """The one line that the command prints."""
    run = harness("import", "official", file, "--data", data, "--out", out)
    assert (run.exit_code, run.stdout) == (2, "")
    [line] = run.stderr.splitlines()
    return str(line)


def test_words_are_in_the_order_of_their_first_appearance(data: Path) -> None:
    assert read_vocabulary(data) == ["the", "cat", "sat", "<eos>", "dog", "ran"]


def test_an_imported_model_scores_text_and_names_unknown_words(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    imported = import_checkpoint(official_file(tmp_path / "m.pt"), data, out)
    assert imported.model["hidden"] == 7, "nhid, for a single tied layer is as wide as the embedding"
    answer = scoring.score_checkpoint(
        scoring.EvaluationRequest(model=load_model(out, device="cpu"), text=data / "train.txt")
    ).to_json()
    assert (answer["num_targets"], answer["protocol"], answer["unit"]) == (4, "exact", "word")
    assert answer["origin"]["sha256"] == imported.origin.sha256
    (tmp_path / "new.txt").write_text("the cat sat\na cat sat\n")
    refused = harness("evaluate", out, "--text", tmp_path / "new.txt")
    assert refused.exit_code == 2
    assert "1 tokens are not in the checkpoint's vocabulary of 6: 'a' (line 2)" in refused.stderr
    replaced = harness("evaluate", out, "--text", tmp_path / "new.txt", "--unknown", "dog", "--json")
    assert json.loads(replaced.stdout)["text"]["num_unknown"] == 1


def test_a_model_saved_alone_as_by_finetune_is_the_same_model(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = import_checkpoint(official_file(tmp_path / "m.pt"), data, tmp_path / "whole")
    writer = Writer()
    file = writer.zipped(tmp_path / "bare.pt", objects(writer)[0])
    bare = import_checkpoint(file, data, tmp_path / "bare")
    assert (bare.sha256, bare.model) == (whole.sha256, whole.model)
    assert bare.origin.not_in_the_file == ["ar", "tar", "criterion"]
    monkeypatch.setattr("harness.checkpoints.awd_lstm_lm.mapping.MAX_UNSPLIT_WORDS", VOCAB - 1)
    assert "without the criterion that such a vocabulary was trained with" in refusal(file, data, tmp_path / "large")
    number = writer.zipped(tmp_path / "number.pt", 3)
    assert "neither the list [model, criterion, optimizer] nor a model alone" in refusal(number, data, tmp_path / "n")


def test_unreadable_files_and_folders_are_refused_in_one_line(data: Path, tmp_path: Path) -> None:
    file, out, long_name = official_file(tmp_path / "m.pt", 7), tmp_path / "out", tmp_path / ("x" * 300)
    assert "knows 7 tokens, and" in refusal(file, data, out)
    assert "cannot be read: No such file" in refusal(tmp_path / "none.pt", data, out)
    assert "cannot be read" in refusal(tmp_path, data, out)
    assert "File name too long" in refusal(file, long_name, out)
    assert "File name too long" in refusal(file, data, long_name)
    (data / "valid.txt").write_bytes(b"the\n\xff\n")
    assert "valid.txt: not UTF-8 near line" in refusal(file, data, out)
    (data / "valid.txt").unlink()
    assert "lacks valid.txt" in refusal(file, data, out)
    with pytest.raises(DataError, match=r"lacks train\.txt"):
        read_vocabulary(tmp_path / "nowhere")
    assert not out.exists()


@pytest.mark.parametrize("legacy_format", [True, False])
def test_a_hostile_file_is_refused_and_nothing_in_it_is_run(data: Path, tmp_path: Path, legacy_format: bool) -> None:
    writer = Writer()
    root = objects(writer)
    system = Call(Global("posix", "system"), (f"touch {tmp_path / 'owned'}",))
    root[2].state["defaults"] = {"lr": Call(Global("collections", "OrderedDict"), ([["x", system]],))}
    file = writer.write(tmp_path / "m.pt", root, legacy=legacy_format)
    line = refusal(file, data, tmp_path / "out")
    assert "names posix.system, which no official checkpoint uses; nothing in it was run" in line
    assert not (tmp_path / "owned").exists()
    assert not (tmp_path / "out").exists()


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.booleans(), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=3))
def test_changed_bytes_are_a_checkpoint_or_a_refusal(
    data: Path, tmp_path: Path, legacy_format: bool, changes: list[tuple[float, int]]
) -> None:
    writer = Writer(sources=legacy_format)
    file = writer.write(tmp_path / "m.pt", objects(writer), legacy=legacy_format)
    content = bytearray(file.read_bytes())
    for position, value in changes:
        content[int(position * (len(content) - 1))] = value
    file.write_bytes(content)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    try:
        import_checkpoint(file, data, tmp_path / "out")
    except CheckpointError:
        assert not (tmp_path / "out").exists()
    else:
        load_model(tmp_path / "out", device="cpu")


@pytest.mark.parametrize("cutoffs", [[3, 2], [2, 2], [2, 6], [0, 3]])
def test_cutoffs_that_do_not_fit_are_refused(data: Path, tmp_path: Path, cutoffs: list[int]) -> None:
    writer = Writer()
    root = objects(writer)
    root[1] = criterion(writer, cutoffs, (np.zeros((2, WIDTH), np.float32), np.zeros(2, np.float32)))
    line = refusal(writer.legacy(tmp_path / "m.pt", root), data, tmp_path / "out")
    assert "holds a model that cannot be built" in line
    assert "cutoffs" in line


def test_another_checkpoint_is_never_overwritten(data: Path, tmp_path: Path) -> None:
    out, first = tmp_path / "out", official_file(tmp_path / "a.pt")
    writer = Writer()
    second = writer.legacy(tmp_path / "b.pt", objects(writer))
    assert import_checkpoint(first, data, out) == import_checkpoint(first, data, out)
    with pytest.raises(CheckpointError, match="already holds another checkpoint"):
        import_checkpoint(second, data, out)


@pytest.mark.parametrize(
    ("vocab_size", "shapes", "message"),
    [
        (VOCAB, {"bias_hh": (8,)}, r"layers\.0\.bias_hh has shape \(8,\), and its model needs \(16,\)"),
        (7, {}, r"knows 7 tokens, and .* holds 6"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_before_a_number_is_read(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vocab_size: int, shapes: Any, message: str
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("numbers were read")

    monkeypatch.setattr(TorchFile, "array", fail)
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(official_file(tmp_path / "m.pt", vocab_size, **shapes), data, tmp_path / "out")


@pytest.mark.parametrize("num_layers", [2, 10])
def test_a_model_larger_than_its_file_is_not_built(data: Path, tmp_path: Path, num_layers: int) -> None:
    """Two layers with a storage that declares 2**36 numbers, or many layers that share one real storage."""
    writer = Writer()
    root, weights = objects(writer), lstm_weights(np.random.default_rng(0), 64, 64)
    layers = [lstm(writer, weights, drop=None) for _ in range(num_layers)]
    declared = Persistent(("storage", Global("torch", "FloatStorage"), "huge", "cpu", 1 << 36))
    arguments = (declared, 0, (1 << 20, 1 << 16), (1 << 16, 1), False, Call(Global("collections", "OrderedDict"), ()))
    for layer in layers if num_layers == 2 else []:
        layer.state["_parameters"]["weight_hh_l0"] = Call(Global("torch._utils", "_rebuild_tensor_v2"), arguments)
    embedding = np.zeros((VOCAB, 64), np.float32)
    root[0] = language_model(writer, layers, embedding, np.zeros(VOCAB, np.float32))
    assert "parameters, more than" in refusal(writer.zipped(tmp_path / "m.pt", root), data, tmp_path / "out")
