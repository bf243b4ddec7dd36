"""`harness evaluate` and `harness sample` over checkpoints that this harness trained."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import models
from harness import data
from harness.checkpoints import format
from harness.checkpoints import model as kept
from harness.checkpoints.export import export
from harness.checkpoints.model import load as load_model
from harness.commands.main import main
from harness.core.errors import CheckpointError, DataError
from harness.evaluation import scoring

VOCABULARY = ["\n", " ", "a", "b", "é"]
BLOCK = {"builder": "awd-lstm", "layers": 1, "hidden": 6, "embedding": 6}


def kept_model(folder: Path, vocabulary: list[str], **meta: Any) -> Any:
    torch.manual_seed(0)
    model = models.build("awd-lstm", kept.model_config(BLOCK), vocab_size=len(vocabulary)).eval()
    format.save(folder, {"model": model.state_dict()}, {"model": BLOCK, "vocabulary": vocabulary, **meta})
    return model


def harness(*words: object) -> Any:
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


def test_a_text_is_scored_as_its_model_scores_it_by_hand(tmp_path: Path) -> None:
    model = kept_model(tmp_path / "c", VOCABULARY)
    (tmp_path / "t.txt").write_text("ab é\nba")
    ids = torch.tensor([2, 3, 1, 4, 0, 3, 2]).unsqueeze(1)
    with torch.no_grad():
        expected = float(model(ids[:-1], ids[1:], model.initial_state(1)).nll_TB.double().sum())
    found = scoring.run(scoring.Request(model=load_model(tmp_path / "c", device="cpu"), text=tmp_path / "t.txt"))
    assert found["nll_nats"] == pytest.approx(expected, rel=1e-6)
    assert (found["num_targets"], found["num_units"], found["num_dropped"]) == (6, 6, 1)
    assert found["metrics"]["bpc"] == pytest.approx(expected / 6 / np.log(2), rel=1e-6)
    assert found["text"]["reading"] == "one token per character"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_read_once_and_its_checksum_is_that_of_what_came(tmp_path: Path) -> None:
    kept_model(tmp_path / "c", VOCABULARY)
    content, pipe = "ab é\nba".encode() * 9, tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(content,), daemon=True)
    writer.start()
    found = scoring.run(scoring.Request(model=load_model(tmp_path / "c", device="cpu"), text=pipe))
    writer.join(30)
    assert found["text"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert found["text"]["tokens"] == len(content.decode())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_an_answer_says_what_the_weights_were_stored_in(tmp_path: Path, dtype: str) -> None:
    kept_model(tmp_path / "c", VOCABULARY, dtype="float32")
    export(tmp_path / "c", tmp_path / "x", dtype=dtype, shard_bytes=1 << 20)
    (tmp_path / "t.txt").write_text("abab")
    text = ("--text", tmp_path / "t.txt", "--device", "cpu")
    for folder, stored in (("c", "float32"), ("x", dtype)):
        found = json.loads(harness("evaluate", tmp_path / folder, *text, "--json").stdout)
        assert (found["dtype"], found["weights_dtype"]) == ("float32", stored)
        assert f"weights_dtype: {stored}\n" in harness("evaluate", tmp_path / folder, *text).stdout


def test_a_split_in_another_order_of_tokens_is_the_same_text(tmp_path: Path) -> None:
    for split, text in (("train", "ab é\n"), ("valid", "ab"), ("test", "bé a\nab")):
        (tmp_path / f"{split}.txt").write_text(text)
    spec = {"kind": "chars", "name": "mine", **{s: str(tmp_path / f"{s}.txt") for s in ("train", "valid", "test")}}
    corpus = data.load(data.prepare(spec))
    kept_model(tmp_path / "same", list(corpus.vocabulary))
    same = scoring.run(scoring.Request(model=load_model(tmp_path / "same", device="cpu"), corpus=corpus))
    text = scoring.run(scoring.Request(model=load_model(tmp_path / "same", device="cpu"), text=tmp_path / "test.txt"))
    assert same["nll_nats"] == text["nll_nats"]
    kept_model(tmp_path / "turned", list(reversed(corpus.vocabulary)))
    turned = scoring.run(scoring.Request(model=load_model(tmp_path / "turned", device="cpu"), corpus=corpus))
    text = scoring.run(scoring.Request(model=load_model(tmp_path / "turned", device="cpu"), text=tmp_path / "test.txt"))
    assert turned["nll_nats"] == text["nll_nats"]
    kept_model(tmp_path / "fewer", ["a", "b"])
    with pytest.raises(CheckpointError, match=r"lacks 3 of mine's 5, such as '\\n'"):
        scoring.run(scoring.Request(model=load_model(tmp_path / "fewer", device="cpu"), corpus=corpus))


def test_every_protocol_is_known_to_the_command(tmp_path: Path) -> None:
    kept_model(tmp_path / "c", VOCABULARY)
    (tmp_path / "t.txt").write_text("ab é\nba" * 40)
    found = {}
    for protocol in ("exact", "official", "streams"):
        run = harness(
            "evaluate",
            tmp_path / "c",
            "--text",
            tmp_path / "t.txt",
            "--protocol",
            protocol,
            "--device",
            "cpu",
            "--json",
        )
        assert run.exit_code == 0, run.output
        found[protocol] = json.loads(run.stdout)
        assert found[protocol]["protocol"] == protocol
    assert found["official"]["num_units"] == found["exact"]["num_units"] + 1
    assert found["official"]["nll_nats"] == pytest.approx(found["exact"]["nll_nats"], rel=1e-6)
    assert harness("evaluate", tmp_path / "c", "--text", tmp_path / "t.txt", "--device", "cpu").stdout.count("\n") > 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give either --dataset or --text"),
        (["--text", "TEXT", "--dataset", "enwik8"], "give either --dataset or --text"),
        (["--text", "TEXT", "--split", "valid"], "--split goes with --dataset"),
        (["--dataset", "enwik8", "--unknown", "x"], "--unknown goes with --text"),
        (["--text", "TEXT", "--batch", "10"], "--batch goes with --protocol official, not exact"),
        (["--text", "SHORT"], "a split of 1 tokens has nothing to predict"),
        (["--text", "TEXT", "--device", "tpu"], "device 'tpu' is unknown"),
        (["--dataset", "enwik9"], "Did you mean 'enwik8'?"),
    ],
)
def test_what_does_not_go_together_is_one_line(tmp_path: Path, options: list[str], message: str) -> None:
    kept_model(tmp_path / "c", VOCABULARY)
    (tmp_path / "TEXT").write_text("ab é")
    (tmp_path / "SHORT").write_text("a")
    words = [str(tmp_path / word) if word in ("TEXT", "SHORT") else word for word in options]
    run = harness("evaluate", tmp_path / "c", *words)
    assert run.exit_code == 2
    assert message in run.stderr
    assert "Traceback" not in run.stderr


def test_a_folder_that_is_no_checkpoint_is_told_before_anything_is_prepared(tmp_path: Path) -> None:
    run = harness("evaluate", tmp_path, "--dataset", "enwik8")
    assert (run.exit_code, "is not a checkpoint" in run.stderr) == (2, True)
    assert harness("sample", tmp_path, "--prompt", "x").exit_code == 2


def test_weights_that_are_not_finite_are_no_score(tmp_path: Path) -> None:
    model = kept_model(tmp_path / "c", VOCABULARY)
    broken = {name: value * np.nan for name, value in model.state_dict().items()}
    format.save(tmp_path / "c", {"model": broken}, {"model": BLOCK, "vocabulary": VOCABULARY})
    (tmp_path / "t.txt").write_text("abab")
    with pytest.raises(CheckpointError, match=r"its loss on .* is nan"):
        scoring.run(scoring.Request(model=load_model(tmp_path / "c", device="cpu"), text=tmp_path / "t.txt"))


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"model": None}, "does not say what model it holds"),
        ({"model": {**BLOCK, "builder": "gru"}}, "its model cannot be built"),
        ({"model": {**BLOCK, "hidden": 0}}, "its model cannot be built"),
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
        ({"model": {"builder": "awd-lstm"}}, "its model cannot be built: layers: Field required$"),
        ({"model": {**BLOCK, "depth": 3}}, "its model cannot be built: depth: Unexpected keyword argument$"),
        ({"model": {**BLOCK, "hidden": "many"}}, "hidden: Input should be a valid integer"),
        ({"model": {**BLOCK, "builder": ["gru"]}}, r"builder \['gru'\] is unknown; known: awd-lstm, qrnn"),
        ({"model": {**BLOCK, "cutoffs": [9]}}, "cutoffs must be below the vocabulary of 5"),
        ({"vocabulary": []}, "holds no vocabulary"),
        ({"vocabulary": ["a", "b", "a", "c", "d"]}, "holds no vocabulary: it contains 'a' twice"),
        ({"vocabulary": ["a", "b", 3, "c", "d"]}, r"vocabulary\.2: Input should be a valid string"),
        ({"dtype": "int8"}, "dtype: Input should be 'float32', 'float64', 'float16' or 'bfloat16'"),
        ({"dtype": ["float32"]}, "dtype: Input should be 'float32'"),
        ({"unit": "byte"}, r"its unit is byte, but its token '\\n' is no byte's number"),
        ({"unit": "letter"}, "unit: Input should be 'byte', 'char' or 'word'"),
    ],
)
def test_an_index_that_cannot_be_used_is_refused(tmp_path: Path, meta: dict[str, Any], message: str) -> None:
    model = kept_model(tmp_path / "c", VOCABULARY)
    index = {"model": BLOCK, "vocabulary": VOCABULARY, **meta}
    format.save(tmp_path / "c", {"model": model.state_dict()}, index)
    with pytest.raises(CheckpointError, match=message) as caught:
        kept.load(tmp_path / "c", device="cpu")
    assert str(tmp_path / "c") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "https" not in str(caught.value)


@pytest.mark.parametrize("command", ["evaluate", "sample"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / ("x" * 300), "File name too long"),
        (lambda folder: folder, "nested too deeply"),
    ],
)
def test_a_folder_that_cannot_be_read_is_one_line(tmp_path: Path, command: str, make: Any, message: str) -> None:
    (tmp_path / format.INDEX).write_text("[" * 200_000)
    (tmp_path / "t.txt").write_text("abab")
    run = harness(command, make(tmp_path), *(("--text", tmp_path / "t.txt") if command == "evaluate" else ()))
    assert (run.exit_code, run.stdout) == (2, "")
    [line] = run.stderr.splitlines()
    assert message in line


def test_a_text_file_that_is_too_short_for_its_streams_is_refused(tmp_path: Path) -> None:
    kept_model(tmp_path / "c", VOCABULARY)
    (tmp_path / "t.txt").write_text("ab")
    request = scoring.Request(
        model=load_model(tmp_path / "c", device="cpu"), text=tmp_path / "t.txt", protocol="official", batch=10
    )
    with pytest.raises(DataError, match="too short for 10 streams"):
        scoring.run(request)


def test_samples_are_text_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    kept_model(tmp_path / "c", VOCABULARY)
    words = ("sample", tmp_path / "c", "--prompt", "ab", "--tokens", 30, "--device", "cpu")
    first = harness(*words, "--seed", 4)
    assert first.exit_code == 0, first.output
    assert len(first.stdout) == 31, "thirty characters and the line's end"
    assert first.stdout == harness(*words, "--seed", 4).stdout
    assert first.stdout != harness(*words, "--seed", 5).stdout
    greedy = harness(*words, "--temperature", 0).stdout
    assert greedy == harness(*words, "--temperature", 0, "--seed", 9).stdout
    stranger = harness(*words[:2], "--prompt", "xyz")
    assert (stranger.exit_code, "prompt's 'x' is not among" in stranger.stderr) == (2, True)


def test_a_greedy_sample_is_what_the_whole_text_predicts(tmp_path: Path) -> None:
    """Without carried state: each next token is the likeliest after all of the text so far."""
    model = kept_model(tmp_path / "c", VOCABULARY)
    ids = [2, 3]
    with torch.no_grad():
        for _ in range(12):
            h, _ = model.features(torch.tensor(ids).unsqueeze(1), model.initial_state(1))
            ids.append(int(model.log_probs(h[-1]).argmax()))
    expected = "".join(VOCABULARY[token] for token in ids[2:])
    run = harness("sample", tmp_path / "c", "--prompt", "ab", "--tokens", 12, "--temperature", 0, "--device", "cpu")
    assert run.stdout == expected + "\n"
