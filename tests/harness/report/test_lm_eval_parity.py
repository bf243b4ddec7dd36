"""A tiny pretrained model that is scored here, against what lm-evaluation-harness says of it."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from jobs import run_here
from pretrained_factory import REASON

import harness
from harness.api.texts import TextChoice
from harness.report import explain
from harness.suite import load, resolve, texts_of
from harness.system import source
from harness.worker.job import RunJob

pytest.importorskip("transformers", reason=REASON)

LM_EVAL = Path(__file__).with_name("lm_eval")
MADE = json.loads((LM_EVAL / "tiny.json").read_text(encoding="utf-8"))
# Its last window has more context than ours, except where the page ends with a window.
[FIGURE] = [each for each in MADE["figures"] if each["num_tokens"] % MADE["context"] == 0]
SETTINGS = {"context": MADE["context"], "stride": MADE["context"], "dtype": "float64", "detokenizer": "wikitext"}
SUITE = """
suite: tiny
dataset: {{kind: bytes, name: page, train: page.txt, valid: page.txt, test: page.txt}}
metrics: [bits_per_byte]
evaluation: {{splits: [test]}}
entries: {{tiny: {{title: Tiny, model: {{builder: hf, path: model, {settings}}}}}}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lm_eval")
    make: dict[str, Any] = runpy.run_path(str(LM_EVAL / "make.py"))
    make["model"](MADE["context"]).save_pretrained(root / "model")
    make["tokenizer"]().save_pretrained(root / "model")
    (root / "page.txt").write_bytes((LM_EVAL / FIGURE["text"]).read_bytes()[: FIGURE["page_bytes"]])
    return root


def test_the_nats_of_a_page(folder: Path) -> None:
    settings = [f"{name}={value}" for name, value in SETTINGS.items()]
    text = TextChoice(text=folder / "page.txt")
    score = harness.evaluate(f"hf:{folder / 'model'}", text=text, device="cpu", settings=settings)
    assert score.nll_nats == pytest.approx(-FIGURE["log_likelihood"], rel=1e-12)
    assert (score.num_targets, score.num_bytes, score.num_dropped) == (FIGURE["num_tokens"], FIGURE["scored_bytes"], 0)


def test_the_three_metrics_of_a_run(folder: Path) -> None:
    settings = ", ".join(f"{name}: {value}" for name, value in SETTINGS.items())
    (folder / "tiny.yaml").write_text(SUITE.format(settings=settings), encoding="utf-8")
    suite = load(folder / "tiny.yaml")
    [spec] = resolve(suite, device="cpu")
    job = RunJob(
        spec=spec, prepared=None, texts=texts_of(suite, [spec]), results=folder / "out", code=source.installed(),
        sensors=False,
    )  # fmt: skip
    record = run_here(job)
    assert record.status == "finished", record.error
    [each] = explain.explain(record, original=folder / "page.txt")
    ours = {value.metric: value.value for value in each.values if value.convention == "lm-evaluation-harness"}
    assert ours == pytest.approx({name: FIGURE[name] for name in ours}, rel=1e-12)
    assert len(ours) == 3
