"""Pretrained models pass the audit; tests/zoo has the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from pretrained_factory import TEXT, save

import harness

pytest.importorskip("constriction", reason="the extra audit is not installed")


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_pretrained_model_passes(architecture: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(TEXT.encode())
    model = f"hf:{save(tmp_path / 'tiny', architecture=architecture)}"
    audit = harness.audit(model, text=tmp_path / "text", device="cpu", stretch=60)
    assert audit.passed, [check for check in audit.checks if not check.passed]
