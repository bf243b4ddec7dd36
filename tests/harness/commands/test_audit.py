"""`harness audit` over a checkpoint: verdicts, JSON, exit statuses."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from invoking import call

import harness
import lm_models
from harness.checkpoints import format
from harness.checkpoints.model import model_config

VOCABULARY = ["<eos>", "_", "a", "b", "c"]
BLOCK = {"builder": "awd-lstm", "layers": 1, "hidden": 8, "embedding": 8}
TEXT = "a b _ c\nc a _ b b\n" * 20
NAMES = ["mass", "loss", "causality", "invariance", "in place", "exactly once", "coder", "sealed"]


@pytest.fixture
def words(tmp_path: Path) -> list[object]:
    torch.manual_seed(0)
    model = lm_models.build("awd-lstm", model_config(BLOCK), vocab_size=len(VOCABULARY))
    format.save(tmp_path / "c", {"model": model.state_dict()}, {"model": BLOCK, "vocabulary": VOCABULARY})
    (tmp_path / "text").write_text(TEXT)
    return ["audit", tmp_path / "c", "--text", tmp_path / "text", "--device", "cpu"]


needs_coder = pytest.mark.skipif(find_spec("constriction") is None, reason="the extra audit is not installed")


@needs_coder
def test_a_checkpoint_passes(words: list[object]) -> None:
    done = call(*words)
    assert done.exit_code == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == [f"pass  {name}" for name in NAMES]
    assert lines[-1].startswith("passed: ")
    assert f"{len(TEXT.split()) + 40 - 1:,} targets" in lines[-1]


@needs_coder
def test_json_has_every_check(words: list[object]) -> None:
    answer = json.loads(call(*words, "--json", "--stretch", 50).stdout)
    assert answer["passed"] is True
    assert answer["num_coded"] == 50
    assert [check["name"] for check in answer["checks"]] == NAMES
    evaluated = json.loads(call("evaluate", *words[1:], "--json").stdout)
    assert {name: answer[name] for name in ("nll_nats", "num_targets", "checkpoint_sha256")} == {
        name: evaluated[name] for name in ("nll_nats", "num_targets", "checkpoint_sha256")
    }


@needs_coder
def test_a_check_that_fails_ends_with_status_1(words: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    made = harness.audit(Path(str(words[1])), text=Path(str(words[3])), device="cpu")
    first = replace(made.checks[0], passed=False, figure=None)
    monkeypatch.setattr("harness.api.audits.audit", lambda *_, **__: replace(made, checks=(first, *made.checks[1:])))
    done = call(*words)
    assert done.exit_code == 1
    assert "FAIL  mass: no number" in done.stdout
    assert "catches probabilities that sum to more than 1" in done.stdout
    assert call(*words, "--json").exit_code == 1


@needs_coder
def test_official_is_refused(words: list[object]) -> None:
    done = call(*words, "--protocol", "official")
    assert done.exit_code == 2
    assert "leaves targets out" in done.stderr


@needs_coder
def test_a_checkpoint_without_a_text_is_refused(words: list[object]) -> None:
    done = call("audit", words[1])
    assert done.exit_code == 2
    assert "holds no record of a run; give a checkpoint a text, by --text or --dataset" in done.stderr


def test_without_the_coder_one_line_says_what_to_install(words: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "constriction", None)
    done = call(*words)
    assert done.exit_code == 2
    assert done.stderr.splitlines() == ["harness: coding a text needs constriction: pip install 'lm-harness[audit]'"]
