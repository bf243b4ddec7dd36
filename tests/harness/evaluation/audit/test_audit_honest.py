"""Every kind of model that comes with the harness passes the audit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pretrained_factory import TEXT, save

import harness
import lm_models
from harness.checkpoints import format
from harness.checkpoints.model import model_config

pytest.importorskip("constriction", reason="the extra audit is not installed")

WORDS = ["<eos>", *(f"w{number}" for number in range(40))]
BLOCKS = [
    {"builder": "awd-lstm", "layers": 2, "hidden": 8, "embedding": 8},
    {"builder": "awd-lstm", "layers": 1, "hidden": 8, "embedding": 8, "cutoffs": [10, 20]},
    {"builder": "qrnn", "layers": 2, "hidden": 8, "embedding": 8},
    {"builder": "mingru", "layers": 2, "hidden": 8, "embedding": 8},
    {"builder": "transformer", "layers": 2, "hidden": 8, "heads": 2, "feed_forward": 16, "memory": 16},
    {"builder": "transformer", "layers": 2, "hidden": 8, "heads": 2, "feed_forward": 16, "context": 16, "stride": 8},
]


def passes(model: str | Path, text: Path) -> None:
    audit = harness.audit(model, text=text, device="cpu", stretch=250)
    assert audit.passed, [check for check in audit.checks if not check.passed]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block['builder']}-{len(block)}")
def test_a_builder_passes(block: dict[str, Any], tmp_path: Path) -> None:
    model = lm_models.build(block["builder"], model_config(block), vocab_size=len(WORDS))
    weights = {name: 3 * value for name, value in model.state_dict().items()}
    format.save(tmp_path / "c", {"model": weights}, {"model": block, "vocabulary": WORDS})
    ids = torch.randint(1, len(WORDS), (400,)).tolist()
    (tmp_path / "text").write_text("".join(WORDS[each] + (" " if each % 9 else "\n") for each in ids))
    passes(tmp_path / "c", tmp_path / "text")


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_pretrained_model_passes(architecture: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(TEXT.encode())
    passes(f"hf:{save(tmp_path / 'tiny', architecture=architecture)}", tmp_path / "text")
