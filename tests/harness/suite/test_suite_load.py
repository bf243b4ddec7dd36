# ruff: noqa: E501 - a table of mistakes reads best with one on a line
"""Loading a suite: defaults, and one line with file, line, dotted path and near name for every mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import lm_kernels
import lm_models
from harness.core.errors import SuiteError
from harness.suite import load
from harness.suite.loader import load_dataset

SUITE = """\
suite: tiny
dataset: ptb-char
metrics: [bpc]
entries:
  lstm:
    model:
      builder: awd-lstm
      layers: 1
      hidden: 8
      embedding: 8
      dropout: {input: 0.1}
    recipe:
      optimizer: adam
      lr: 2e-3
      batch: 4
      bptt: 5
      epochs: 2
profiles:
  quick:
    entries:
      lstm:
        recipe:
          batch: 2
"""


Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(text: str) -> Path:
        path = tmp_path / "tiny.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return _write


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(SuiteError) as caught:
        load(path, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert "pydantic" not in message
    return message.removeprefix(f"{path}:").removeprefix(" ")


def test_a_suite_is_read_with_every_default_written_out(write: Write) -> None:
    suite = load(write(SUITE))
    assert (suite.name, suite.task, suite.profile) == ("tiny", "Language Modelling", "full")
    assert suite.profiles == ("full", "quick")
    assert suite.dataset == {"name": "ptb-char"}
    assert suite.dataset_title == "Penn Treebank (Character Level)"
    assert (suite.seeds, suite.kernels, suite.checkpoint_every_s) == ((1,), (), 60)
    assert suite.evaluation.protocols == ("exact",)
    (entry,) = suite.entries
    assert (entry.name, entry.title, entry.dtype, entry.kernel) == ("lstm", "lstm", "float32", "auto")
    assert entry.model["dropout"] == {"embedding": 0, "input": 0.1, "hidden": 0, "output": 0, "weight": 0}
    assert entry.model["tie"] is True
    assert entry.recipe is not None
    assert (entry.recipe.lr, entry.recipe.betas, entry.recipe.windows) == (0.002, (0.9, 0.999), None)
    (entry,) = load(write(SUITE.replace("lr: 2e-3", "lr: 1"))).entries
    assert entry.recipe is not None
    assert isinstance(entry.recipe.lr, float), "a whole number is accepted for a float"


MISTAKES = [
    # text of SUITE -> its replacement -> start of the message
    ("builder: awd-lstm", "builder: awd-lstn", "7: entries.lstm.model.builder 'awd-lstn' is unknown. Did you mean 'awd-lstm'?"),
    ("builder: awd-lstm", "builder: AWD_LSTM", "7: entries.lstm.model.builder 'AWD_LSTM' is unknown. Did you mean 'awd-lstm'?"),
    ("builder: awd-lstm", "builder: 3", "7: entries.lstm.model.builder must be text, got 3"),
    ("      builder: awd-lstm\n", "", "6: entries.lstm.model.builder is missing"),
    ("layers: 1", "layres: 1", "8: entries.lstm.model 'layres' is unknown. Did you mean 'layers'? (and 1 more)"),
    ("      layers: 1\n", "", "6: entries.lstm.model.layers is missing"),
    ("layers: 1", "layers: '1'", "8: entries.lstm.model.layers must be a whole number, got the text '1': remove the quotes"),
    ("layers: 1", "layers: nan", "8: entries.lstm.model.layers must be a whole number, got 'nan'"),
    ("layers: 1", "layers: true", "8: entries.lstm.model.layers must be a whole number, got true"),
    ("layers: 1", "layers: 1.5", "8: entries.lstm.model.layers must be a whole number, got 1.5"),
    ("layers: 1", "layers:", "8: entries.lstm.model.layers must be a whole number, got null"),
    ("hidden: 8", "hidden: 8\n      cutoffs: [20, 10]", "10: entries.lstm.model.cutoffs must rise, got [20, 10]"),
    ("hidden: 8", "hidden: 8\n      cutoffs: [0, 10]", "10: entries.lstm.model.cutoffs must be at least 1, got [0, 10]"),
    ("hidden: 8", "hidden: 8\n      cutoffs: [20, 50]", "10: entries.lstm.model.cutoffs must be below the vocabulary of 50 words, got [20, 50]"),
    ("hidden: 8", "hidden: 8\n      tie: false\n      cutoffs: [20]", "11: entries.lstm.model.cutoffs need tie: head and tails share the embedding matrix"),
    ("hidden: 8", "hidden: 0", "9: entries.lstm.model.hidden must be at least 1, got 0"),
    ("input: 0.1", "input: 1.5", "11: entries.lstm.model.dropout.input must be in [0, 1), got 1.5"),
    ("input: 0.1", "inputs: 0.1", "11: entries.lstm.model.dropout 'inputs' is unknown. Did you mean 'input'?"),
    ("{input: 0.1}", "0.1", "11: entries.lstm.model.dropout must be a block of keys, got 0.1"),
    ("optimizer: adam", "optimizer: adan", "13: entries.lstm.recipe.optimizer 'adan' is unknown. Did you mean 'adam'?"),
    ("lr: 2e-3", "lr: -1", "14: entries.lstm.recipe.lr must be positive, got -1.0"),
    ("lr: 2e-3", "lr: fast", "14: entries.lstm.recipe.lr must be a number, got 'fast'"),
    ("lr: 2e-3", "lr: false", "14: entries.lstm.recipe.lr must be a number, got false"),
    ("lr: 2e-3", "lr: .nan", "14: .nan is not a finite number"),
    ("lr: 2e-3", "lr: 2e-3\n      betas: [0.9]", "15: entries.lstm.recipe.betas must hold more values, got 1"),
    ("lr: 2e-3", "lr: 2e-3\n      betas: [1, 2, 3]", "15: entries.lstm.recipe.betas must hold at most 2 values, got 3"),
    ("lr: 2e-3", "lr: 2e-3\n      decay_at: [3, 2]", "15: entries.lstm.recipe.decay_at must be rising epochs from 1"),
    ("lr: 2e-3", "lr: 2e-3\n      decay_at:\n      - 3\n      - x", "17: entries.lstm.recipe.decay_at[1] must be a whole number"),
    ("lr: 2e-3", "lr: 2e-3\n      windows:\n        std: -1", "16: entries.lstm.recipe.windows.std must not be negative"),
    ("lr: 2e-3", "lr: 2e-3\n      schedule: {knd: linear}", "15: entries.lstm.recipe.schedule 'knd' is unknown. Did you mean 'kind'?"),
    ("epochs: 2", "epochs: 2\n      tokens: 9", "12: entries.lstm.recipe: exactly one of epochs and tokens must be given"),
    ("epochs: 2", "epoch: 2", "17: entries.lstm.recipe 'epoch' is unknown. Did you mean 'epochs'?"),
    ("batch: 2", "batch: 0", "23: entries.lstm.recipe.batch must be at least 1, got 0 (in profile quick)"),
    ("batch: 2", "bach: 2", "23: entries.lstm.recipe 'bach' is unknown. Did you mean 'batch'? (in profile quick)"),
    ("batch: 2", "batch: 2\n      gru: null", "24: profiles.quick.entries 'gru' is unknown, so not dropped."),
    ("batch: 2", "batch: 2\n    suite: other", "24: profiles.quick.suite cannot be changed by a profile"),
    ("batch: 2", "batch: 2\n  slow: 3", "24: profiles.slow must be a block of keys"),
    ("batch: 2", "batch: 2\n  s.l: {}", "24: profiles 's.l' must be at most 64 letters"),
    ("[bpc]", "[bcp]", "3: metrics[0] 'bcp' is unknown. Did you mean 'bpc'?"),
    ("[bpc]", "bpc", "3: metrics must be a list, got 'bpc'"),
    ("[bpc]", "[]", "3: metrics must hold at least one value"),
    ("[bpc]", "[bpc, bpc]", "3: metrics names one twice"),
    ("metrics: [bpc]", "metric: [bpc]", "3: the key 'metric' is unknown. Did you mean 'metrics'? (and 1 more)"),
    ("metrics: [bpc]\n", "", "1: metrics is missing"),
    ("suite: tiny", "suite: 7", "1: suite must be text, got 7: write it in quotes"),
    ("suite: tiny", "suite: ../x", "1: suite '../x' must be at most 64 letters"),
    ("suite: tiny", "suite: tiny\nsuite: tiny", "2: the key 'suite' is given twice (first at line 1)"),
    ("ptb-char", "ptb-cha", "2: dataset 'ptb-cha' is unknown. Did you mean 'ptb-char'?"),
    ("ptb-char", "{name: enwik9}", "2: dataset"),
    ("ptb-char", "3", "2: dataset must be a name or a block of keys, got 3"),
    ("ptb-char", "{kind: bytez}", "2: dataset.kind 'bytez' is unknown. Did you mean 'bytes'?"),
    ("ptb-char", "{kind: markov, order: 9}", "2: dataset.order must be in 1..6, got 9"),
    ("ptb-char", "{kind: markov, ordr: 2}", "2: dataset 'ordr' is unknown. Did you mean 'order'?"),
    ("ptb-char", "{kind: bytes, file: x}", "2: dataset.file needs fractions"),
    ("ptb-char", "{kind: bytes, file: enwik8, fractions: [0.8, 0.1, 0.1]}", "2: dataset: a file of your own cannot have"),
    ("  lstm:\n    model", "  lstm:\n    dtype: float61\n    model", "6: entries.lstm.dtype 'float61' is unknown. Did you mean 'float64'?"),
    ("  lstm:\n    model", "  lstm:\n    kernel: fuzed\n    model", "6: entries.lstm.kernel 'fuzed' is unknown. Did you mean 'fused'?"),
    ("  lstm:\n    model", "  lstm:\n    kernel: unrolled\n    model", "6: entries.lstm.kernel 'unrolled' is not a kernel of awd-lstm, which has auto, native, padded, fused, reference"),
    ("  lstm:\n    model", "  lstm:\n    published: ptb-char/awdlstm\n    model", "6: entries.lstm.published 'ptb-char/awdlstm' is unknown. Did you mean 'ptb-char/awd-lstm'?"),
    ("  lstm:\n    model", "  lstm:\n    checkpoint: here\n    model", "5: entries.lstm has both recipe and checkpoint"),
    ("  lstm:\n    model", "  l stm:\n    model", "5: entries 'l stm' must be at most 64 letters"),
    ("    recipe:\n", "    notes:\n", "12: entries.lstm 'notes' is unknown."),
    ("  lstm:\n    model", "  lstm:\n    published: enwik8/awd-lstm\n    model", "6: entries.lstm.published 'enwik8/awd-lstm' is a value of enwik8 in bpc, not of Penn Treebank (Character Level) in bpc"),
    ("dataset: ptb-char", "dataset: ptb-char\nseeds: [1, -1]", "3: seeds must be in 0..4294967295, got -1"),
    ("dataset: ptb-char", "dataset: ptb-char\nseeds: [1, '2']", "3: seeds[1] must be a whole number, got the text '2'"),
    ("dataset: ptb-char", "dataset: ptb-char\nseeds: [1, 1]", "3: seeds names one twice: [1, 1]"),
    ("dataset: ptb-char", "dataset: ptb-char\nevaluation: {protocols: [exakt]}", "3: evaluation.protocols[0] 'exakt' is unknown. Did you mean 'exact'?"),
    ("dataset: ptb-char", "dataset: ptb-char\ncheckpoint_every_s: 0", "3: checkpoint_every_s must be positive seconds, got 0"),
    ("dataset: ptb-char", "dataset: ptb-char\nkernels: [fo_pol]", "3: kernels[0] 'fo_pol' is unknown. Did you mean 'fo_pool'?"),
    ("dataset: ptb-char", "dataset: ptb-char\nkernels: [lstm, lstm]", "3: kernels names one twice: ['lstm', 'lstm']"),
    ("dataset: ptb-char", 'dataset: ptb-char\n"a\\nb": 1', "3: holds the control character U+000A; use plain text on one line"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "replacement", "message"), MISTAKES, ids=[each[2][:60] for each in MISTAKES])
def test_mistakes(write: Write, text: str, replacement: str, message: str) -> None:
    assert text in SUITE
    assert refusal(write(SUITE.replace(text, replacement, 1))).startswith(message)


def test_the_first_of_several_problems_is_reported_and_the_others_counted(write: Write) -> None:
    text = SUITE.replace("lr: 2e-3", "lr: x").replace("batch: 4", "batch: y").replace("epochs: 2", "epoch: 2")
    assert refusal(write(text)) == "14: entries.lstm.recipe.lr must be a number, got 'x' (and 2 more)"


def test_an_unknown_profile_and_a_problem_in_another_one(write: Write) -> None:
    assert refusal(write(SUITE), profile="quik") == "profile 'quik' is unknown. Did you mean 'quick'?"
    assert "(in profile quick)" in refusal(write(SUITE.replace("batch: 2", "batch: no")), profile="full")


ORACLE = """\
suite: o
dataset: {kind: markov, order: 1, symbols: 4, concentration: 0.5, seed: 3}
metrics: [bpc]
entries:
  oracle:
    model: {builder: markov-oracle, order: 1, symbols: 4, concentration: 0.5, seed: 3}
"""


def test_models_with_parameters_need_weights_and_others_take_none(write: Write) -> None:
    head = SUITE[: SUITE.index("    recipe:")]
    assert refusal(write(head)).startswith("5: entries.lstm needs a recipe to train by, or a checkpoint to load")
    assert load(write(ORACLE)).entries[0].recipe is None
    assert "has nothing to learn" in refusal(write(ORACLE + "    checkpoint: x\n"))


@pytest.mark.parametrize(("key", "value"), [("order", 2), ("symbols", 5), ("concentration", 0.25), ("seed", 1)])
def test_an_oracle_of_another_source_is_refused(write: Write, key: str, value: float) -> None:
    path = write(ORACLE)
    old = load(path).dataset[key]
    message = f"6: entries.oracle.model.{key} is {old}, but dataset.{key} is {value}: an oracle needs the same"
    assert refusal(path, overrides=(f"dataset.{key}={value}",)).startswith(message)
    both = (f"dataset.{key}={value}", f"entries.oracle.model.{key}={value}")
    assert load(path, overrides=both).entries[0].model[key] == value


@pytest.mark.parametrize("dataset", ["ptb-char", "{kind: bytes, file: x.txt, fractions: [0.8, 0.1, 0.1]}"])
def test_an_oracle_needs_a_source(write: Write, dataset: str) -> None:
    text = ORACLE.replace("{kind: markov, order: 1, symbols: 4, concentration: 0.5, seed: 3}", dataset)
    assert refusal(write(text)) == "6: entries.oracle.model: an oracle needs a dataset of kind markov"


def test_a_kernel_is_one_of_the_builders_own(write: Write) -> None:
    for builder, op in lm_models.KERNEL_OPS.items():
        text = SUITE.replace("awd-lstm", builder)
        for name in ("auto", *lm_kernels.KERNELS[op]):
            assert load(write(text), overrides=(f"entries.lstm.kernel={name}",)).entries[0].kernel == name
    fused = refusal(write(SUITE.replace("awd-lstm", "qrnn")), overrides=("entries.lstm.kernel=fused",))
    known = ", ".join(("auto", *lm_kernels.KERNELS["fo_pool"]))
    assert f"entries.lstm.kernel 'fused' is not a kernel of qrnn, which has {known}" in fused
    oracle = refusal(write(ORACLE), overrides=("entries.oracle.kernel=reference",))
    assert "'reference' is not a kernel of markov-oracle, which has auto" in oracle


def test_a_file_with_only_a_dataset_can_be_prepared_but_not_run(write: Write) -> None:
    path = write("dataset: {kind: bytes, file: mine.txt, fractions: [0.9, 0.05, 0.05]}\n")
    spec, base = load_dataset(path)
    assert spec["file"] == "mine.txt"
    assert spec["fractions"] == [0.9, 0.05, 0.05]
    assert base == path.parent
    assert refusal(path).startswith("1: suite is missing (and 2 more)")
    assert refusal(write("suite: x\ndataset: enwik8\nmetrics: [bpc]\n")) == "1: entries is missing"
    with pytest.raises(SuiteError, match=r"tiny\.yaml:1: dataset is missing"):
        load_dataset(write("suite: x\n"))


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("entries.lstm.model.tie=true", "needs an embedding of its own"),
        ("entries.lstm.model.builder=mingru", "needs an embedding of its own"),
        ("entries.lstm.speed.folded_clip=true", "needs a step that clips by itself"),
        ("entries.lstm.dtype=float16", "needs a step that clips by itself"),
    ],
)
def test_clipping_by_occurrence_is_refused_where_it_is_not_defined(write: Write, override: str, reason: str) -> None:
    by_occurrence = ("entries.lstm.recipe.clip_embedding=occurrences", "entries.lstm.model.tie=false")
    load(write(SUITE), overrides=by_occurrence)
    assert reason in refusal(write(SUITE), overrides=(*by_occurrence, override))
