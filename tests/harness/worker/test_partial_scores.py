from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from record_factory import score

from harness.worker.partial_scores import SCORES, PartialScores, delete


def test_scores_come_back_bit_for_bit_for_the_same_weights_alone(tmp_path: Path) -> None:
    row: Any = score(1.2345678901234567)
    PartialScores(tmp_path / "checkpoints", "a").add(row)
    stored = PartialScores(tmp_path / "checkpoints", "a")
    assert stored.find("exact", "test") == row
    assert stored.find("exact", "valid") is None
    assert stored.find("streams", "test") is None
    assert PartialScores(tmp_path / "checkpoints", "b").find("exact", "test") is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"of": "a"}', '{"of": "a", "rows": 3}', '{"of": "a", "rows": [3]}']
)
def test_a_damaged_file_only_costs_the_time_to_score_again(tmp_path: Path, content: str) -> None:
    (tmp_path / SCORES).write_text(content)
    assert PartialScores(tmp_path, "a").find("exact", "test") is None


def test_they_are_deleted_once(tmp_path: Path) -> None:
    PartialScores(tmp_path, "a").add(score(1.0))
    delete(tmp_path)
    delete(tmp_path)
    assert not list(tmp_path.iterdir())
