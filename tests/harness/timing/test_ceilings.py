from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.timing import ceilings, clocks
from harness.timing.ceilings import COPY, GEMM, TRIAD, Ceilings, Flusher, cache_bytes
from harness.timing.clocks import Budget


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ceilings, "_CPU_CACHES", tmp_path)
    return tmp_path


def cache(folder: Path, index: int, text: str) -> None:
    (folder / f"index{index}").mkdir()
    (folder / f"index{index}" / "size").write_text(text)


def test_the_largest_cache_the_system_names_is_the_last(caches: Path) -> None:
    cache(caches, 0, "32K\n")
    cache(caches, 1, "1M\n")
    cache(caches, 2, "nonsense")
    assert cache_bytes("cpu") == 1 << 20


def test_a_system_that_names_none_gets_a_common_size(caches: Path) -> None:
    assert cache_bytes("cpu") == ceilings.FALLBACK_CACHE_BYTES


def test_the_flusher_reads_twice_the_last_cache_and_writes_nothing(caches: Path) -> None:
    cache(caches, 3, "64K")
    flusher = Flusher("cpu")
    assert flusher.buffer_N.numel() * flusher.buffer_N.element_size() == 2 * 64 << 10
    version = flusher.buffer_N._version
    flusher()
    assert flusher.buffer_N._version == version


def test_copy_triad_and_product_compute_what_they_are_named_for() -> None:
    made = Ceilings("cpu", torch.float64, array_bytes=4096, gemm=8)
    made.b_N.fill_(3)
    made.c_N.fill_(4)
    run = {each.name: each.phases[each.name] for each in made.candidates()}
    assert run[COPY](None).tolist() == [3.0] * 1024
    assert run[TRIAD](None).tolist() == [5.0] * 1024
    assert run[GEMM](None).dtype == torch.float64
    left, right = (operand.numpy() for operand in (made.left_NN, made.right_NN))
    np.testing.assert_allclose(made.product_NN.numpy(), left @ right, rtol=1e-12, atol=1e-12)
    assert made.work() == {COPY: 2 * 4096, TRIAD: 3 * 4096, GEMM: 2 * 8**3}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_product_multiplies_numbers_like_a_models_and_moves_no_other_generator(dtype: torch.dtype) -> None:
    before = torch.get_rng_state()
    made = Ceilings("cpu", dtype, array_bytes=64, gemm=64)
    assert torch.equal(torch.get_rng_state(), before)
    for operand in (made.left_NN, made.right_NN):
        assert operand.dtype == dtype
        assert operand.float().std().item() == pytest.approx(1, abs=0.1)
    assert not torch.equal(made.left_NN, made.right_NN)


def test_arrays_are_larger_than_the_last_cache(caches: Path) -> None:
    cache(caches, 3, "64M")
    monstrous = max(4 * cache_bytes("cpu"), ceilings.MIN_ARRAY_BYTES["cpu"])
    assert monstrous == 256 << 20


def test_ceilings_are_timed_like_any_candidate() -> None:
    made = Ceilings("cpu", torch.float32, array_bytes=4096, gemm=8)
    budget = Budget(seconds=0, minimum=2, maximum=2)
    samples = clocks.measure(made.candidates(), budget, clocks.clock_for("cpu"), flush=lambda: None)
    assert {key: len(values) for key, values in samples.items()} == {(n, n): 2 for n in (COPY, TRIAD, GEMM)}
