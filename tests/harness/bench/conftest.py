"""A machine with a small cache, so that emptying it before each sample takes no time."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.timing import ceilings


@pytest.fixture(autouse=True)
def _small_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "_CPU_CACHES", tmp_path / "no caches")
    monkeypatch.setattr(ceilings, "FALLBACK_CACHE_BYTES", 1 << 16)
