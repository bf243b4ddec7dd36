"""`harness evaluate hf:PATH` and runs of `builder: hf`, over a tiny model that the test makes."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from invoking import call
from jobs import run_here
from pretrained_factory import REASON, TEXT, save

from harness import data
from harness.core.errors import DataError
from harness.core.scores import TextSize
from harness.evaluation import pretrained
from harness.results import target_files
from harness.results.store import Store
from harness.suite import load, resolve, texts_of
from harness.system import source
from harness.worker.execute import write_record
from harness.worker.job import RunJob
from lm_models.huggingface.config import Config

transformers = pytest.importorskip("transformers", reason=REASON)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT.encode())
    return path


def reader(folder: Path, **settings: object) -> pretrained.PretrainedModel:
    return pretrained.load(Config(path=str(folder), **settings), device="cpu")  # type: ignore[arg-type]


def nats_by_the_library(folder: Path, text: str) -> float:
    """One forward pass over the complete text after the beginning's token."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]])
    with torch.no_grad():
        log_probs = torch.log_softmax(network(ids).logits[0, :-1].double(), -1)
    return -log_probs.gather(-1, ids[0, 1:, None]).sum().item()


def test_the_command_gives_the_nats_of_the_library_over_the_bytes_of_the_file(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("the cat sat, Äpfel\n", encoding="utf-8")
    done = call("evaluate", f"hf:{folder}", "--text", path, "--json", "--set", "context=60", "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    nats = nats_by_the_library(folder, "the cat sat, Äpfel\n")
    assert found["nll_nats"] == pytest.approx(nats, rel=1e-5)
    assert found["num_bytes"] == 20
    assert found["metrics"]["bits_per_byte"] == pytest.approx(nats / 20 / math.log(2), rel=1e-5)
    assert (found["num_targets"], found["num_dropped"]) == (found["text"]["tokens"], 0)
    assert (found["text"]["begin"], found["model"]["stride"]) == ("<s>", 30)


def test_a_stretch_ends_with_a_whole_character(folder: Path, text: Path) -> None:
    at = TEXT.encode().index("日".encode())
    for more in range(3):
        read = reader(folder, first_bytes=at + more).read(text)
        assert (len(read.text), read.size_read.num_bytes) == (at, at)
    assert reader(folder, first_bytes=at + 3).read(text).size(read.ids).num_bytes == at + 3


def test_without_a_beginning_the_first_token_is_dropped_with_its_bytes(folder: Path, text: Path) -> None:
    model = reader(folder)
    model.tokenizer.begin = None
    read = model.read(text)
    whole, scored = read.size(read.ids), read.size(read.ids, 1)
    assert (whole.num_bytes, read.num_added) == (len(TEXT.encode()), 0)
    assert whole.num_bytes - scored.num_bytes == read.ends[0] > 0
    assert (whole.num_words or 0) - (scored.num_words or 0) == 1


def test_both_counts_of_a_detokenised_text_are_known(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "tokens.txt"
    path.write_text("the cat , the dog .\n")
    read = reader(folder, detokenizer="wikitext").read(path)
    assert read.text == b"the cat, the dog .\n"  # no rule is about a full stop at a line's end
    assert (read.size_read, read.size(read.ids)) == (TextSize(20, 20, 6), TextSize(19, 19, 5))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"the \xff", "byte 4 is not UTF-8"), (b"", "the text is empty"), (None, "cannot be read: No such file")],
)
def test_a_text_that_cannot_be_read_is_one_line(
    folder: Path, tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "t").write_bytes(content)
    with pytest.raises(DataError, match=message):
        reader(folder).read(tmp_path / "t")


def test_a_text_longer_than_memory_is_refused(folder: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=200 * 1000))
    with pytest.raises(DataError, match="tokens of more than 1,000 bytes do not fit into memory now; set first_bytes"):
        reader(folder).read(text)
    assert len(reader(folder, first_bytes=900).read(text).text) == 900


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--set", "contxt=3"), "model 'contxt' is unknown. Did you mean 'context'?"),
        (("--protocol", "official"), "--protocol official are for vocabularies"),
        (("--set", "context=65"), "context of 65 is more than the model's 64"),
    ],
)
def test_what_a_pretrained_model_cannot_do_is_one_line(
    folder: Path, text: Path, options: tuple[str, ...], message: str
) -> None:
    done = call("evaluate", f"hf:{folder}", "--text", text, "--device", "cpu", *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


SUITE = """
suite: tiny
dataset: {{kind: words, name: tiny, train: t.txt, valid: t.txt, test: t.txt}}
metrics: [bits_per_byte]
evaluation: {{protocols: [exact, streams], splits: [test], streams: 3, warmup: 40}}
entries:
  hf:
    title: Tiny
    model: {{builder: hf, path: {folder}, context: 16, stride: 1, first_bytes: 900}}
"""


def test_a_run_scores_the_file_and_its_row_is_marked(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(TEXT.encode())
    (tmp_path / "tiny.yaml").write_text(SUITE.format(folder=folder))
    suite = load(tmp_path / "tiny.yaml", overrides=["evaluation.keep_nll=true"])
    [spec] = resolve(suite, device="cpu")
    job = RunJob(
        spec=spec,
        prepared=None,
        texts=texts_of(suite, [spec]),
        results=tmp_path / "out",
        code=source.installed(),
        sensors=False,
    )
    record = run_here(job)
    assert record.status == "finished", record.error
    exact, streams = record.scores
    assert (exact.tally.num_bytes, exact.tally.num_dropped) == (900, 0)
    assert exact.tally.num_targets == record.data["counts"]["test"]["tokens"]
    # Each stream of a sliding window has read its complete context before its first target.
    assert streams.tally.nll_nats == pytest.approx(exact.tally.nll_nats, rel=1e-5)
    assert record.data["texts"]["test"]["begin"] == "<s>"
    assert exact.target_file is not None
    kept = target_files.read(tmp_path / "out/runs" / spec.run_id, exact.target_file)
    assert (kept.edges[0], kept.edges[-1]) == (0, 900)
    assert kept.text_sha256 == hashlib.sha256(TEXT.encode()[:900]).hexdigest()
    assert math.fsum(kept.nll) == pytest.approx(exact.tally.nll_nats, rel=1e-6)
    assert (record.model["context"], record.model["stride"]) == (16, 1)
    assert record.model["source"]["files"].keys() >= {"model.safetensors", "tokenizer.json"}
    store = Store(tmp_path / "out")
    write_record(record, store)
    store.label(spec.run_id, spec.label)
    done = call("table", tmp_path / "out", "--format", "csv")
    assert "Tiny (trained on other data)" in done.stdout


def test_the_name_of_a_run_depends_on_the_files_and_the_stretch_and_not_on_the_place(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "t.txt").write_bytes(TEXT.encode())

    def spec_of(place: Path, **model: object) -> object:
        (tmp_path / "tiny.yaml").write_text(SUITE.format(folder=place))
        changes = [f"entries.hf.model.{key}={value}" for key, value in model.items()]
        [spec] = resolve(load(tmp_path / "tiny.yaml", overrides=changes), device="cpu")
        return spec.run_id

    (tmp_path / "moved").symlink_to(folder)
    names = {spec_of(folder), spec_of(tmp_path / "moved"), spec_of(Path("moved"))}
    assert len(names) == 1
    assert spec_of(folder, first_bytes=800) not in names
    assert spec_of(folder, stride=2) not in names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("evaluation.protocols=[official]", "is scored by exact or streams, not by official"),
        ("entries.hf.dtype=bfloat16", "entries.hf.dtype is of training"),
        ("entries.hf.recipe={optimizer: adam, lr: 1, batch: 1, bptt: 1, epochs: 1}", "has nothing to learn"),
        ("entries.hf.adaptive={dynamic_sgd: {lr: [1]}}", "takes no adaptive protocol"),
        ("entries.hf.model.path=nowhere", "entries.hf.model.path nowhere: no such folder or GGUF file"),
    ],
)
def test_a_suite_that_asks_for_what_cannot_be_is_refused(
    folder: Path, tmp_path: Path, change: str, message: str
) -> None:
    (tmp_path / "t.txt").write_bytes(TEXT.encode())
    (tmp_path / "tiny.yaml").write_text(SUITE.format(folder=folder))
    done = call("run", tmp_path / "tiny.yaml", "--set", change, "--results", tmp_path / "out", "--device", "cpu")
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_split_without_a_file_of_its_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its test split is no file of its own"):
        data.find_text("enwik8", "test")
