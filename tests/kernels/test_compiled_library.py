"""The library of the native backends: only one built from the present sources is used, and building is optional."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lm_kernels.compiled import library, sources

ROOT = Path(__file__).resolve().parents[2]


def test_the_digest_covers_the_sources_of_every_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {path.parents[1].name for path in sources.files()}
    assert folders == {"compiled", "fo_pool", "lstm", "weight_drop"}
    before = sources.digest()
    for folder in folders:
        (tmp_path / folder / "csrc").mkdir(parents=True)
    for path in sources.files():
        (tmp_path / path.relative_to(sources.KERNELS)).write_bytes(path.read_bytes())
    monkeypatch.setattr(sources, "KERNELS", tmp_path)
    assert sources.digest() == before
    for path in sources.files():
        text = path.read_bytes()
        path.write_bytes(text + b" ")
        assert sources.digest() != before
        path.write_bytes(text)


def test_a_library_of_other_sources_or_a_broken_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "_library.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(library, "path", lambda: broken)
    library._library_or_reason.cache_clear()
    try:
        assert "cannot be loaded" in str(library.unavailable("cpu"))
        monkeypatch.undo()
        library._library_or_reason.cache_clear()
        if library.path() is not None:
            monkeypatch.setattr(library.sources, "digest", lambda: "other")
            assert "built from other sources" in str(library.unavailable("cpu"))
    finally:
        library._library_or_reason.cache_clear()


def test_the_build_succeeds_without_a_compiler(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    command = [sys.executable, "setup.py", "-q", "build", "--build-base", str(tmp_path)]
    build = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "CC": "no-such-compiler"}, capture_output=True, text=True, check=False
    )
    assert build.returncode == 0, build.stderr
    assert not list(tmp_path.rglob("_library*"))
