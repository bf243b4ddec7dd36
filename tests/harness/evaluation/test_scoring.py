"""`harness evaluate` and `harness sample` over checkpoints of this harness."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import lm_models
from harness import data
from harness.checkpoints import format
from harness.checkpoints import model as checkpoint_model
from harness.checkpoints.export import export
from harness.commands.main import main
from harness.core.errors import CheckpointError
from harness.evaluation import scoring

VOCABULARY = ["\n", " ", "a", "b", "é"]
BLOCK = {"builder": "awd-lstm", "layers": 1, "hidden": 6, "embedding": 6}


def save_model(folder: Path, tokens: list[str] = VOCABULARY, scale: float = 1.0, **index: Any) -> Any:
    """A checkpoint of a model over `tokens`; `index` replaces parts of its index."""
    torch.manual_seed(0)
    model = lm_models.build("awd-lstm", checkpoint_model.model_config(BLOCK), vocab_size=len(tokens)).eval()
    weights = {name: value * scale for name, value in model.state_dict().items()}
    format.save(folder, {"model": weights}, {"model": BLOCK, "vocabulary": tokens, **index})
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint with a vocabulary of five characters."""
    save_model(tmp_path / "c")
    return tmp_path / "c"


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "t.txt").write_text(text)
    return tmp_path / "t.txt"


def score(folder: Path, **request: Any) -> scoring.CheckpointScore:
    model = checkpoint_model.load(folder, device="cpu")
    return scoring.score_checkpoint(scoring.EvaluationRequest(model=model, **request))


def harness(*words: object) -> Any:
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


def test_a_text_has_the_score_of_its_model_by_hand(tmp_path: Path) -> None:
    model = save_model(tmp_path / "c")
    ids = torch.tensor([2, 3, 1, 4, 0, 3, 2]).unsqueeze(1)
    with torch.no_grad():
        expected = float(model(ids[:-1], ids[1:], model.initial_state(1)).nll_TB.double().sum())
    scored = score(tmp_path / "c", text=written(tmp_path, "ab é\nba"))
    assert scored.nll_nats == pytest.approx(expected, rel=1e-6)
    assert (scored.num_targets, scored.num_units, scored.num_dropped) == (6, 6, 1)
    assert scored.metrics["bpc"] == pytest.approx(expected / 6 / np.log(2), rel=1e-6)
    assert scored.text is not None
    assert scored.text.reading == "one token per character"
    assert "identity" not in scored.to_json()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_an_answer_says_in_which_dtype_the_weights_were_stored(tmp_path: Path, folder: Path, dtype: str) -> None:
    export(folder, tmp_path / "x", dtype=dtype, shard_bytes=1 << 20)
    text = ("--text", written(tmp_path, "abab"), "--device", "cpu")
    for checkpoint, stored in ((folder, "float32"), (tmp_path / "x", dtype)):
        answer = json.loads(harness("evaluate", checkpoint, *text, "--json").stdout)
        assert (answer["dtype"], answer["weights_dtype"]) == ("float32", stored)
        assert f"weights in {stored};" in harness("evaluate", checkpoint, *text).stdout


def test_a_split_whose_vocabulary_is_in_another_order_is_the_same_text(tmp_path: Path) -> None:
    for split, text in (("train", "ab é\n"), ("valid", "ab"), ("test", "bé a\nab")):
        (tmp_path / f"{split}.txt").write_text(text)
    spec = {"kind": "chars", "name": "mine", **{s: str(tmp_path / f"{s}.txt") for s in ("train", "valid", "test")}}
    corpus = data.load(data.prepare(spec))
    for name, vocabulary in (("same", list(corpus.vocabulary)), ("reversed", list(reversed(corpus.vocabulary)))):
        save_model(tmp_path / name, vocabulary)
        scored = score(tmp_path / name, corpus=corpus)
        assert scored.nll_nats == score(tmp_path / name, text=tmp_path / "test.txt").nll_nats
        assert (scored.dataset, scored.split, scored.text) == ("mine", "test", None)
        assert scored.to_json()["identity"] == corpus.manifest["identity"]
    save_model(tmp_path / "fewer", ["a", "b"])
    with pytest.raises(CheckpointError, match=r"lacks 3 of mine's 5, such as '\\n'"):
        score(tmp_path / "fewer", corpus=corpus)


def test_the_command_knows_every_protocol(tmp_path: Path, folder: Path) -> None:
    words = ("evaluate", folder, "--text", written(tmp_path, "ab é\nba" * 40), "--device", "cpu")
    answers = {}
    for protocol in ("exact", "official", "streams"):
        run = harness(*words, "--protocol", protocol, "--json")
        assert run.exit_code == 0, run.output
        answers[protocol] = json.loads(run.stdout)
        assert answers[protocol]["protocol"] == protocol
    assert answers["official"]["num_units"] == answers["exact"]["num_units"] + 1
    assert answers["official"]["nll_nats"] == pytest.approx(answers["exact"]["nll_nats"], rel=1e-6)
    first, *others = harness(*words).stdout.splitlines()
    assert first.startswith(f"bpc {answers['exact']['metrics']['bpc']:.4f} on ")
    assert len(others) < 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give either --dataset or --text"),
        (["--text", "TEXT", "--dataset", "enwik8"], "give either --dataset or --text"),
        (["--text", "TEXT", "--split", "valid"], "--split goes with --dataset"),
        (["--dataset", "enwik8", "--unknown", "x"], "--unknown goes with --text"),
        (["--text", "TEXT", "--batch", "10"], "--batch goes with --protocol official, not exact"),
        (["--text", "SHORT"], "a split of 1 tokens has nothing to predict"),
        (["--text", "SHORT", "--protocol", "official", "--batch", "10"], "too short for 10 streams"),
        (["--text", "TEXT", "--device", "tpu"], "device 'tpu' is unknown"),
        (["--dataset", "enwik9"], "harness: dataset 'enwik9' is unknown. Did you mean 'enwik8'?"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(
    tmp_path: Path, folder: Path, options: list[str], message: str
) -> None:
    (tmp_path / "TEXT").write_text("ab é")
    (tmp_path / "SHORT").write_text("a")
    run = harness("evaluate", folder, *(tmp_path / word if word in ("TEXT", "SHORT") else word for word in options))
    assert run.exit_code == 2
    assert message in run.stderr
    assert "Traceback" not in run.stderr


def test_weights_that_are_not_finite_give_no_score(tmp_path: Path) -> None:
    save_model(tmp_path / "c", scale=np.nan)
    with pytest.raises(CheckpointError, match=r"its loss on .* is nan"):
        score(tmp_path / "c", text=written(tmp_path, "abab"))


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"model": None}, "does not say what model it holds"),
        ({"model": {**BLOCK, "builder": "gru"}}, "its model cannot be built"),
        ({"model": {**BLOCK, "layers": 2}}, r"lacks 'layers\.1"),
        ({"model": {**BLOCK, "embedding": 5}}, r"'embedding' has shape \(5, 6\), the model's is \(5, 5\)"),
        (
            {"model": {**BLOCK, "hidden": 10**5, "layers": 2}},
            r"needs 40,\d{3},\d{3}.* parameters, more than [\d,]+ bytes",
        ),
        ({"model": {**BLOCK, "layers": 10**6}}, "layers must be at most 1,000, got 1,000,000"),
        (
            {"model": {"builder": "markov-oracle", "order": 10**9, "symbols": 2, "concentration": 1.0, "seed": 0}},
            "order",
        ),
        ({"model": {"builder": "awd-lstm"}}, "its model cannot be built: layers is missing$"),
        ({"model": {**BLOCK, "depth": 3}}, "its model cannot be built: depth is unknown$"),
        ({"model": {**BLOCK, "hidden": "many"}}, "hidden is not valid: Input should be a valid integer"),
        ({"model": {**BLOCK, "builder": ["gru"]}}, r"builder \['gru'\] is unknown; known: compressor, awd-lstm, qrnn"),
        ({"model": {**BLOCK, "cutoffs": [9]}}, "cutoffs must be below the vocabulary of 5"),
        ({"vocabulary": []}, "holds no vocabulary"),
        ({"vocabulary": ["a", "b", "a", "c", "d"]}, "holds no vocabulary: it contains 'a' twice"),
        ({"vocabulary": ["a", "b", 3, "c", "d"]}, r"vocabulary\.2 must be text, got 3"),
        ({"dtype": "int8"}, "dtype must be 'float32', 'float64', 'float16' or 'bfloat16'"),
        ({"dtype": ["float32"]}, "dtype must be 'float32'"),
        ({"unit": "byte"}, r"its unit is byte, but its token '\\n' is no byte's number"),
        ({"unit": "letter"}, "unit must be 'byte', 'char' or 'word'"),
    ],
)
def test_an_index_that_cannot_be_used_is_refused(tmp_path: Path, meta: dict[str, Any], message: str) -> None:
    save_model(tmp_path / "c", **meta)
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint_model.load(tmp_path / "c", device="cpu")
    assert str(tmp_path / "c") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "https" not in str(caught.value)


@pytest.mark.parametrize("command", ["evaluate", "sample"])
@pytest.mark.parametrize(
    ("name", "message"),
    [("x" * 300, "File name too long"), ("", "more than 64 levels deep"), ("empty", "is not a checkpoint")],
)
def test_a_folder_that_cannot_be_read_is_one_line(tmp_path: Path, command: str, name: str, message: str) -> None:
    (tmp_path / format.INDEX).write_text("[" * 200_000)
    (tmp_path / "empty").mkdir()
    # It is refused before the data is looked for.
    text = ("--dataset", "enwik8") if command == "evaluate" else ()
    run = harness(command, tmp_path / name, *text)
    assert (run.exit_code, run.stdout) == (2, "")
    [line] = run.stderr.splitlines()
    assert message in line


def test_samples_are_text_and_the_same_for_the_same_seed(folder: Path) -> None:
    words = ("sample", folder, "--prompt", "ab", "--tokens", 30, "--device", "cpu")
    first = harness(*words, "--seed", 4)
    assert first.exit_code == 0, first.output
    assert len(first.stdout) == 31, "thirty characters and a newline"
    assert first.stdout == harness(*words, "--seed", 4).stdout
    assert first.stdout != harness(*words, "--seed", 5).stdout
    greedy = harness(*words, "--temperature", 0).stdout
    assert greedy == harness(*words, "--temperature", 0, "--seed", 9).stdout
    unknown = harness(*words[:2], "--prompt", "xyz")
    assert (unknown.exit_code, "prompt's 'x' is not among" in unknown.stderr) == (2, True)


def test_a_greedy_sample_is_predicted_from_all_of_the_text(tmp_path: Path) -> None:
    """Without carried state: each next token is the likeliest after all of the text so far."""
    model = save_model(tmp_path / "c")
    ids = [2, 3]
    with torch.no_grad():
        for _ in range(12):
            h, _ = model.features(torch.tensor(ids).unsqueeze(1), model.initial_state(1))
            ids.append(int(model.log_probs(h[-1]).argmax()))
    expected = "".join(VOCABULARY[token] for token in ids[2:])
    run = harness("sample", tmp_path / "c", "--prompt", "ab", "--tokens", 12, "--temperature", 0, "--device", "cpu")
    assert run.stdout == expected + "\n"
