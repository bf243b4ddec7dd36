from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.timing import ceilings
from harness.timing.ceilings import COPY, GEMM, TRIAD, Ceilings, Flusher, cache_bytes


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A system whose caches have the sizes of the parameter, as text."""
    monkeypatch.setattr(ceilings, "_CPU_CACHES", tmp_path)
    for index, text in enumerate(request.param):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(text)


@pytest.mark.parametrize(
    ("caches", "size"),
    [
        (["32K\n", "1M\n", "nonsense"], 1 << 20),
        (["64M"], 64 << 20),
        ([], ceilings.FALLBACK_CACHE_BYTES),
    ],
    indirect=["caches"],
)
@pytest.mark.usefixtures("caches")
def test_the_last_cache_is_the_largest_that_the_system_names(size: int) -> None:
    assert cache_bytes("cpu") == size


@pytest.mark.parametrize("caches", [["64K"]], indirect=True)
@pytest.mark.usefixtures("caches")
def test_the_flusher_reads_twice_the_last_cache_and_writes_nothing() -> None:
    flusher = Flusher("cpu")
    assert flusher.buffer_N.numel() * flusher.buffer_N.element_size() == 2 * 64 << 10
    version = flusher.buffer_N._version
    flusher()
    assert flusher.buffer_N._version == version


@pytest.mark.parametrize(("caches", "array_bytes"), [(["64M"], 256 << 20), (["1M"], 128 << 20)], indirect=["caches"])
@pytest.mark.usefixtures("caches")
def test_arrays_have_four_times_the_size_of_the_last_cache(array_bytes: int) -> None:
    assert Ceilings("cpu", torch.float32).work()[COPY] == 2 * array_bytes


@pytest.mark.usefixtures("small_cache")
def test_copy_triad_and_product_compute_what_they_are_named_for() -> None:
    made = Ceilings("cpu", torch.float64)
    made.b_N.fill_(3)
    made.c_N.fill_(4)
    run = {each.name: each.phases[each.name] for each in made.candidates()}
    assert run[COPY](None).tolist() == [3.0] * (1 << 20)
    assert run[TRIAD](None).tolist() == [5.0] * (1 << 20)
    assert run[GEMM](None).dtype == torch.float64
    left, right = (operand.numpy() for operand in (made.left_NN, made.right_NN))
    np.testing.assert_allclose(made.product_NN.numpy(), left @ right, rtol=1e-12, atol=1e-12)
    assert made.work() == {COPY: 2 << 22, TRIAD: 3 << 22, GEMM: 2 * 8**3}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.usefixtures("small_cache")
def test_the_product_is_of_normal_numbers_from_a_separate_generator(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ceilings, "GEMM_SIZE", {"cpu": 64})
    before = torch.get_rng_state()
    made = Ceilings("cpu", dtype)
    assert torch.equal(torch.get_rng_state(), before)
    for operand in (made.left_NN, made.right_NN):
        assert operand.dtype == dtype
        assert operand.float().std().item() == pytest.approx(1, abs=0.1)
    assert not torch.equal(made.left_NN, made.right_NN)
