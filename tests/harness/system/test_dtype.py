"""What dtype `auto` stands for on each kind of CPU, and the warnings about a slow one."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.system import dtype, hardware

FASTER, HALF, UNKNOWN, EMULATED = "faster than float32", "at half the rate of float32", "of unknown rate", "emulated"
AVX512 = "fpu sse avx512f avx512_vnni"

# Lines of /proc/cpuinfo (None for no such file), what it says of products, and `auto`.
CPUS = {
    "Zen 4": ("AuthenticAMD", 25, 17, f"{AVX512} avx512_bf16", FASTER, "bfloat16"),
    "Zen 3": ("AuthenticAMD", 25, 1, "fpu sse avx2", EMULATED, "float32"),
    "Emerald Rapids": ("GenuineIntel", 6, 207, f"{AVX512} avx512_bf16 amx_bf16 amx_tile", FASTER, "bfloat16"),
    "Emerald Rapids, AMX hidden": ("GenuineIntel", 6, 207, f"{AVX512} avx512_bf16", HALF, "float32"),
    "Sapphire Rapids, AMX hidden": ("GenuineIntel", 6, 143, f"{AVX512} avx512_bf16", HALF, "float32"),
    "Cooper Lake": ("GenuineIntel", 6, 85, f"{AVX512} avx512_bf16", FASTER, "bfloat16"),
    "Cascade Lake": ("GenuineIntel", 6, 85, AVX512, EMULATED, "float32"),
    "another flag": ("GenuineIntel", 6, 85, f"{AVX512} avx512_bf16x", EMULATED, "float32"),
    "another vendor": ("SomeVendor", 25, 17, f"{AVX512} avx512_bf16", UNKNOWN, "float32"),
}
X86 = """processor\t: 0
vendor_id\t: {}
cpu family\t: {}
model\t\t: {}
model name\t: Some CPU 85
stepping\t: 2
flags\t\t: {}
bugs\t\t: none

processor\t: 1
flags\t\t: amx_bf16
"""
ARM = """processor\t: 0
BogoMIPS\t: 2100.00
Features\t: fp asimd sve {}
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""
FILES = {name: (X86.format(*line[:4]), *line[4:]) for name, line in CPUS.items()} | {
    "ARM": (ARM.format("bf16 i8mm"), UNKNOWN, "float32"),
    "ARM without bfloat16": (ARM.format("i8mm"), EMULATED, "float32"),
    "no file": (None, UNKNOWN, "float32"),
}


@pytest.mark.parametrize("cpu", FILES)
def test_auto_is_bfloat16_only_where_the_cpu_multiplies_it_faster(cpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, products, auto = FILES[cpu]

    def read(path: Path, **_: str) -> str:
        if text is None:
            raise FileNotFoundError
        return text

    monkeypatch.setattr(Path, "read_text", read)
    monkeypatch.setattr(hardware, "bfloat16_products", hardware.bfloat16_products.__wrapped__)
    assert (hardware.bfloat16_products(), dtype.resolve("auto", "cpu")) == (products, auto)


@pytest.mark.parametrize(
    ("name", "device", "products", "resolved"),
    [
        ("auto", "cuda:0", FASTER, "float32"),
        ("bfloat16", "cpu", EMULATED, "bfloat16"),
        ("bfloat16", "cpu", HALF, "bfloat16"),
        ("float32", "cpu", FASTER, "float32"),
    ],
)
def test_a_device_and_a_named_dtype_decide_before_the_cpu(
    name: str, device: str, products: str, resolved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "bfloat16_products", lambda: products)
    assert dtype.resolve(name, device) == resolved


@pytest.mark.parametrize(
    ("products", "said"),
    [
        (EMULATED, "bfloat16 is emulated on this CPU, which has neither AVX512-BF16 nor AMX"),
        (HALF, "bfloat16 has half the rate of float32 on this CPU"),
        (UNKNOWN, None),
        (FASTER, None),
    ],
)
def test_a_slow_dtype_is_warned_about(products: str, said: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "bfloat16_products", lambda: products)
    warning = dtype.warning("bfloat16", "cpu")
    assert warning is None if said is None else said in str(warning)
    assert dtype.warning("float32", "cpu") is None
    assert dtype.warning("bfloat16", "cuda:0") is None
