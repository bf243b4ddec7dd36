"""The same nats under the conventions of other code, against their own figures."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from invoking import call
from record_factory import EXACT, label, record, spec

from harness import data
from harness.core.errors import DataError
from harness.core.scores import EvaluationProtocol, Score, Tally, TextSize
from harness.report import explain
from harness.report.explain import Explanation
from harness.results.record import RunRecord
from harness.results.store import Store

LM_EVAL = Path(__file__).with_name("lm_eval")
FIGURES = {name: json.loads((LM_EVAL / f"{name}.json").read_text(encoding="utf-8")) for name in ("tiny", "smollm2")}
CASES = [(name, figure) for name, made in FIGURES.items() for figure in made["figures"]]
SHARED = Path(os.environ.get("HARNESS_DATA", "nowhere").split(":")[0])
LEGACY = Path(os.environ.get("HARNESS_FIXTURES", "nowhere")) / "legacy"


def size(text: str) -> TextSize:
    return TextSize(len(text.encode()), len(text), len(text.split()))


def scored(tally: Tally, *, split: str = "test", text: TextSize | None = None, **protocol: Any) -> Score:
    return Score(split, EvaluationProtocol(**{**EXACT, **protocol}), tally, {}, {}, text=text)


def of(dataset: str, *scores: Score, **changes: Any) -> RunRecord:
    block = {"name": dataset, **({"vocabulary": "frequency"} if data.facts({"name": dataset}).unit == "word" else {})}
    made = spec(label=label(metrics=("bits_per_byte",)), dataset=block, dataset_identity=data.identify(block))
    return record(spec_=made, scores=list(scores), **{"data": {"unit": data.facts(block).unit}, **changes})


def values(explanation: Explanation, convention: str) -> dict[str, float | None]:
    return {each.metric: each.value for each in explanation.values if each.convention == convention}


def reasons(explanation: Explanation, convention: str) -> dict[str, str | None]:
    return {each.metric: each.reason for each in explanation.values if each.convention == convention}


def page_of(figure: dict[str, Any]) -> bytes:
    """The text that lm-evaluation-harness read."""
    path = (LM_EVAL if figure["text"] == "page.txt" else SHARED) / figure["text"]
    if not path.is_file():
        pytest.skip(f"needs {figure['text']} under HARNESS_DATA")
    return path.read_bytes()[: figure["page_bytes"]]


def pretrained(name: str, figure: dict[str, Any], page: bytes) -> RunRecord:
    """A record of a model that lm-evaluation-harness scored on a page, which it detokenised."""
    text = TextSize(figure["scored_bytes"], None, None)
    tally = Tally(-figure["log_likelihood"], figure["num_tokens"], figure["num_tokens"], 0).with_text(text)
    read = {"sha256": "ab" * 32, "begin": "<|begin|>", "read": asdict(size(page.decode()))}
    made = spec(
        dataset={"kind": "bytes", "name": "page"}, dataset_identity={"name": "page", "kind": "bytes"}, recipe=None,
        model={"builder": "hf", "path": name, "detokenizer": "wikitext"},
    )  # fmt: skip
    context = FIGURES[name]["context"]
    return record(
        spec_=made,
        scores=[scored(tally, text=text)],
        data={"unit": "token", "texts": {"test": read}},
        model={"builder": "hf", "context": context, "stride": context},
    )


@pytest.mark.parametrize(("name", "figure"), CASES, ids=[f"{name}, {each['text']}" for name, each in CASES])
def test_the_three_metrics_of_lm_evaluation_harness(name: str, figure: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "page.txt").write_bytes(page_of(figure))
    run = pretrained(name, figure, page_of(figure))
    [each] = explain.explain(run, original=tmp_path / "page.txt")
    ours = values(each, "lm-evaluation-harness")
    assert ours == pytest.approx({name: figure[name] for name in ours}, rel=1e-9)
    assert "before it was detokenised" in explain.to_text([each])
    assert each.parts["detokenised"] == "wikitext"
    assert each.parts["beginning of text"] == "<|begin|> before the text, so that its first token is predicted too"
    # Without the page the bytes are in the record, the white space at its ends is not.
    [each] = explain.explain(run)
    assert values(each, "lm-evaluation-harness")["bits_per_byte"] == pytest.approx(figure["bits_per_byte"], rel=1e-9)
    assert "does not say; give --text FILE" in str(reasons(each, "lm-evaluation-harness")["word_perplexity"])
    for other in ("awd-lstm-lm", "Transformer-XL"):
        assert "another tokeniser" in str(reasons(each, other))


def test_another_file_than_the_scored_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("another text", encoding="utf-8")
    name, figure = CASES[0]
    with pytest.raises(DataError, match="has 12 bytes, but 394 were scored"):
        explain.explain(pretrained(name, figure, page_of(figure)), original=tmp_path / "other.txt")


@pytest.mark.parametrize("name", ["lstm_char", "qrnn_word_splits"])
def test_the_official_quotient_is_what_the_official_code_printed(name: str) -> None:
    if not LEGACY.is_dir():
        pytest.skip("needs the official checkpoints' figures under HARNESS_FIXTURES")
    official = json.loads((LEGACY / f"{name}.json").read_text(encoding="utf-8"))
    nats, targets = official["exact_nll_nats"], official["exact_predictions"]
    is_char = name == "lstm_char"
    run = of("ptb-char" if is_char else "ptb-word", scored(Tally(nats, targets, targets, 1)))
    [each] = explain.explain(run)
    loss = official["official_eval_loss_batch1"]  # of float32 sums
    expected = {"bpc": official["official_bpc_batch1"]} if is_char else {"perplexity": math.exp(loss)}
    assert values(each, "awd-lstm-lm") == pytest.approx(expected, rel=1e-5)
    per_token = official["exact_nats_per_token"]
    expected = {"bpc": per_token / math.log(2)} if is_char else {"perplexity": math.exp(per_token)}
    assert values(each, "Transformer-XL") == pytest.approx(expected, rel=1e-12)


def test_an_official_score_keeps_its_own_denominator() -> None:
    tally = Tally(500_000.0, 393_030, 393_040, 12)
    run = of("ptb-char", scored(tally, split="valid", name="official", num_streams=10))
    [each] = explain.explain(run)
    assert values(each, "awd-lstm-lm")["bpc"] == pytest.approx(500_000 / 393_040 / math.log(2))
    assert values(each, "Transformer-XL")["bpc"] == pytest.approx(500_000 / 393_030 / math.log(2))
    assert "drops several tokens" in str(reasons(each, "harness")["bits_per_byte"])
    assert each.parts["context"] == "10 streams, each after 0 unscored tokens, then its own text, by the carried state"


def test_ten_streams_cannot_be_made_from_one() -> None:
    run = of("ptb-char", scored(Tally(500_000.0, 393_041, 393_041, 1), split="valid"))
    [each] = explain.explain(run)
    assert values(each, "awd-lstm-lm")["bpc"] is None
    assert "10 first tokens" in str(reasons(each, "awd-lstm-lm")["bpc"])


@pytest.mark.parametrize(
    ("name", "file"), [("ptb-word", "ptb/ptb.test.txt"), ("wikitext-103", "wikitext-103/wiki.test.tokens")]
)
def test_the_words_and_bytes_of_a_normalised_page(name: str, file: str) -> None:
    if not (SHARED / file).is_file():
        pytest.skip(f"needs {file} under HARNESS_DATA")
    lines = (SHARED / file).read_text(encoding="utf-8").split("\n")[:-1]
    page = "".join(" ".join(line.split()) + "\n" for line in lines)
    targets = len(page.split()) + len(lines) - 1
    [each] = explain.explain(of(name, scored(Tally(6.0 * targets, targets, targets, 1))))
    expected = {
        "word_perplexity": math.exp(6.0 * targets / len(re.split(r"\s+", page))),
        "byte_perplexity": math.exp(6.0 * targets / len(page.encode())),
        "bits_per_byte": 6.0 * targets / len(page.encode()) / math.log(2),
    }
    assert values(each, "lm-evaluation-harness") == pytest.approx(expected, rel=1e-12)
    assert each.parts["words scored"] == len(page.split()) - (not page[0].isspace())


def test_the_parts_of_a_window_that_slides() -> None:
    run = of("ptb-char", scored(Tally(1.0, 442_422, 442_422, 1)), model={"context": 128, "stride": 32})
    [each] = explain.explain(run)
    assert each.parts["context"] == "a sliding window: 97 to 128 tokens before a target, fewer at the beginning"
    assert "its windows begin after 1 token" in explain.to_text([each])


def test_a_loss_that_is_not_finite_has_no_values() -> None:
    run = of("ptb-char", scored(Tally(math.nan, 442_422, 442_422, 1)))
    [each] = explain.explain(run)
    assert {value.value for value in each.values} == {None}
    assert each.parts["nats"] is None
    json.dumps(explain.to_json(run, [each]), allow_nan=False)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    run = of("ptb-char", *(scored(Tally(1e5, 442_422, 442_422, 1), split=split) for split in ("test", "valid")))
    Store(tmp_path).write(run)
    return tmp_path


def test_a_run_is_named_by_its_id_or_its_folder(results: Path) -> None:
    [folder] = (results / "runs").iterdir()
    done = call("explain", folder.name, "--results", results, "--split", "test", "--json")
    assert done.exit_code == 0
    body = json.loads(done.stdout)
    assert body["run_id"] == folder.name
    [of_test] = body["scores"]
    assert (of_test["split"], of_test["parts"]["bytes scored"]) == ("test", 442_422)
    assert done.stdout == call("explain", folder, "--split", "test", "--json").stdout
    shown = call("explain", folder)
    assert (shown.exit_code, shown.stdout.count("protocol exact")) == (0, 2)
    assert "bits_per_byte                  0.326090 = 100,000.00 nats / 442,422 bytes / ln 2" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("ptb-char-awd",), "has no run 'ptb-char-awd'. Did you mean"), (("{}", "--split", "train"), "no score of train"),
     (("{}", "--text", "missing.txt"), "name that of the text by --split"),
     (("{}", "--split", "test", "--text", "missing.txt"), "missing.txt: cannot be read")],
)  # fmt: skip
def test_bad_input_is_one_line(results: Path, arguments: tuple[str, ...], message: str) -> None:
    [folder] = (results / "runs").iterdir()
    done = call("explain", *(each.format(folder.name) for each in arguments), "--results", results)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert message in done.stderr
