"""A pretrained model against others on one text: per byte, by the bytes of its own tokens."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from invoking import call
from pretrained_factory import REASON, save

import harness
import lm_models
from harness.api.texts import TextChoice
from harness.checkpoints import format
from harness.checkpoints import model as checkpoint_model

pytest.importorskip("transformers", reason=REASON)

# Its first character is a token of every model here, and the text is long enough for the blocks of one tokeniser.
FIRST = "Q"
TEXT = FIRST + "the cat sat on the mat, Äpfel 日本 .\n" * 150


def characters(folder: Path, text: str) -> Path:
    torch.manual_seed(0)
    block = {"builder": "awd-lstm", "layers": 1, "hidden": 6, "embedding": 6}
    vocabulary = sorted(set(text))
    model = lm_models.build("awd-lstm", checkpoint_model.model_config(block), vocab_size=len(vocabulary))
    format.save(folder, {"model": model.state_dict()}, {"model": block, "vocabulary": vocabulary})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pretrained")
    (root / "t.txt").write_bytes(TEXT.encode())
    (root / "first.txt").write_bytes(FIRST.encode())
    characters(root / "chars", TEXT)
    save(root / "bpe")
    save(root / "fallback", "byte-fallback")
    return root


def test_each_side_has_the_nats_of_its_own_score_over_the_bytes_that_both_predict(folder: Path) -> None:
    chars, bpe = f"{folder / 'chars'}", f"hf:{folder / 'bpe'}"
    [row] = harness.compare([chars, bpe], text=TextChoice(text=folder / "t.txt"), device="cpu", settings=["context=60"])
    assert (row.metric, row.split) == ("bits_per_byte", "test")

    def nats(model: str, name: str) -> float:
        settings = ["context=60"] if model == bpe else []
        return harness.evaluate(model, text=folder / name, device="cpu", settings=settings).nll_nats

    num_bytes = len(TEXT.encode()) - 1
    assert row.value_a == pytest.approx(nats(chars, "t.txt") / num_bytes / math.log(2), rel=1e-6)
    # The model of characters does not predict the first one.
    nats_of_bpe = nats(bpe, "t.txt") - nats(bpe, "first.txt")
    assert row.value_b == pytest.approx(nats_of_bpe / num_bytes / math.log(2), rel=1e-6)
    assert row.difference == pytest.approx(row.value_a - row.value_b)
    assert row.ci95[0] < row.difference < row.ci95[1]


def test_other_tokenisers_are_compared_per_byte_and_one_tokeniser_by_every_metric(folder: Path) -> None:
    text = ("--text", folder / "t.txt", "--device", "cpu", "--set", "context=32")
    bpe, fallback = f"hf:{folder / 'bpe'}", f"hf:{folder / 'fallback'}"
    [row] = json.loads(call("compare", bpe, fallback, *text, "--json").stdout)
    # Both predict every byte: the sums are those of the scores.
    for name, value in ((bpe, row["value_a"]), (fallback, row["value_b"])):
        score = json.loads(call("evaluate", name, *text, "--json").stdout)
        assert value == pytest.approx(score["metrics"]["bits_per_byte"], rel=1e-6)
    same = json.loads(call("compare", bpe, bpe, *text, "--json").stdout)
    assert {"bits_per_byte", "bits_per_char", "word_perplexity"} <= {each["metric"] for each in same}
    assert {each["verdict"] for each in same} == {"the same in every block"}
    shown = call("compare", bpe, fallback, *text).stdout
    assert any("the mat, Äpfel" in line or "cat sat on" in line for line in shown.split("Where")[1].splitlines())


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ((), 3, "name a text to score it on, with --text or --dataset"),
        (("--text", "{}/t.txt", "--set", "first_bytes=300"), 3, "the bytes of their texts differ"),
        (("--text", "{}/t.txt", "--set", "contxt=3"), 2, "model 'contxt' is unknown. Did you mean 'context'?"),
    ],
)
def test_what_cannot_be_compared_is_one_line(folder: Path, options: tuple[str, ...], status: int, said: str) -> None:
    given = [each.format(folder) for each in options]
    done = call("compare", folder / "chars", f"hf:{folder / 'bpe'}", "--device", "cpu", *given)
    assert (done.exit_code, done.stdout, said in done.stderr) == (status, "", True), done.output
    assert done.stderr.count("\n") == 1


def test_settings_without_a_pretrained_model_are_refused(folder: Path) -> None:
    done = call("compare", folder / "chars", folder / "chars", "--text", folder / "t.txt", "--set", "context=3")
    assert (done.exit_code, "--set goes with hf:PATH" in done.stderr) == (2, True)
