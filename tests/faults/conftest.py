"""Fixtures of the campaign of faults, which uses the helpers of the harness's own tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Appended: a folder `harness` under tests/ must never come before the package.
sys.path += [str(Path(__file__).parents[1] / "harness" / part) for part in ("", "checkpoints")]

from specimen import Specimen  # it imports from the folders above


@pytest.fixture(scope="session")
def specimen(tmp_path_factory: pytest.TempPathFactory) -> Specimen:
    return Specimen(tmp_path_factory.mktemp("specimen"))
