"""What dtype `auto` stands for, and the warning about a dtype that is emulated."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.system import dtype, hardware


@pytest.mark.parametrize(
    ("name", "device", "multiplies", "resolved"),
    [
        ("auto", "cpu", True, "bfloat16"),
        ("auto", "cpu", False, "float32"),
        ("auto", "cuda:0", True, "float32"),
        ("bfloat16", "cpu", False, "bfloat16"),
        ("float32", "cpu", True, "float32"),
    ],
)
def test_auto_is_bfloat16_where_the_cpu_multiplies_it(
    name: str, device: str, multiplies: bool, resolved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "multiplies_bfloat16", lambda: multiplies)
    assert dtype.resolve(name, device) == resolved


def test_only_an_emulated_dtype_is_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "multiplies_bfloat16", lambda: False)
    assert "neither AVX512-BF16 nor AMX" in str(dtype.warning("bfloat16", "cpu"))
    assert dtype.warning("float32", "cpu") is None
    assert dtype.warning("bfloat16", "cuda:0") is None
    monkeypatch.setattr(hardware, "multiplies_bfloat16", lambda: True)
    assert dtype.warning("bfloat16", "cpu") is None


@pytest.mark.parametrize(
    ("flags", "multiplies"),
    [("fpu avx512f avx512_bf16 sse", True), ("fpu amx_bf16", True), ("fpu avx512f avx512_bf16x", False), (None, False)],
)
def test_the_flags_of_the_cpu_decide(flags: str | None, multiplies: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path, **_: str) -> str:
        if flags is None:
            raise FileNotFoundError
        return f"processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: {flags}\nbugs\t: none\n\nprocessor\t: 1\n"

    monkeypatch.setattr(Path, "read_text", read)
    assert hardware.multiplies_bfloat16.__wrapped__() is multiplies
