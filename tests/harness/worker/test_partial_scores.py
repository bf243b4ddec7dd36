from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from record_factory import score

from harness.worker.partial_scores import KeptScores, forget


def test_rows_come_back_bit_for_bit_to_the_same_weights_alone(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "scores.json"
    row: Any = score(1.2345678901234567)
    KeptScores(path, "a").add(row)
    assert KeptScores(path, "a").find("exact", "test") == row
    assert KeptScores(path, "a").find("exact", "valid") is None
    assert KeptScores(path, "a").find("streams", "test") is None
    assert KeptScores(path, "b").find("exact", "test") is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"of": "a"}', '{"of": "a", "rows": 3}', '{"of": "a", "rows": [3]}']
)
def test_a_damaged_file_only_costs_the_time_to_score_again(tmp_path: Path, content: str) -> None:
    path = tmp_path / "scores.json"
    path.write_text(content)
    assert KeptScores(path, "a").find("exact", "test") is None


def test_a_record_makes_them_superfluous(tmp_path: Path) -> None:
    kept = KeptScores(tmp_path / "scores.json", "a")
    kept.add(score(1.0))
    forget(kept.path)
    forget(kept.path)
    assert not list(tmp_path.iterdir())
