"""The compiled backend: accuracy in ulp, the same bits on any number of threads, and running without the library."""

from __future__ import annotations

import psutil
import pytest
import torch
from kernel_support import LEVELS, assert_close, assert_equal, draw, needs_library, on_threads, pool
from torch import Tensor

import lm_kernels
from lm_kernels.compiled import buffers, library
from lm_kernels.fo_pool import native
from lm_kernels.fo_pool.reference import fo_pool as reference

KEEP = torch.tensor(0.9)


def single(*shape: int, seed: int = 0) -> Tensor:
    return draw(*shape, seed=seed, dtype=torch.float32)


def ulps(got: Tensor, exact: Tensor) -> float:
    """Largest error in units in the last place of a float32 of the size of the exact value, without denormals."""
    normal = exact.abs() >= torch.finfo(torch.float32).tiny
    _, exponent = torch.frexp(exact)
    unit = torch.ldexp(torch.ones_like(exact), exponent - 24)
    return ((got.double() - exact).abs() / unit)[normal].max().item()


@needs_library
@pytest.mark.parametrize("level", LEVELS)
def test_gates_and_states_are_within_four_ulp(level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "num_levels", lambda: level)
    x = torch.cat([torch.linspace(-87, 87, 30001), 3 * single(30000), torch.logspace(-30, 1, 5000).neg()])[None, None]
    one, c0 = torch.full_like(x, 1e4), torch.zeros(1, x.shape[2])
    exact = {"z": torch.tanh(x.double()), "f": torch.sigmoid(x.double()), "o": torch.sigmoid(x.double())}
    for index, name in enumerate(exact):
        parts = [one, one, one]
        parts[index] = x  # the other gates are open: h is this one
        h, _ = native.fo_pool(torch.cat(parts, dim=-1), c0)
        assert ulps(h, exact[name]) <= 3, name
    gates, c0 = 2 * single(150, 4, 3 * 256), single(4, 256).abs()
    gates[..., :256].abs_()  # nothing cancels: the state's relative error is defined
    _, c = native.fo_pool(gates, c0)
    _, exact_c = reference(gates.double(), c0.double())
    assert ulps(c, exact_c) <= 4


@needs_library
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_instruction_set_equals_the_reference(
    level: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "num_levels", lambda: level)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-13
    gates, c0, mask = 3 * draw(12, 3, 3 * 70, dtype=dtype), draw(3, 70, dtype=dtype), draw(3, 70, seed=1, dtype=dtype)
    actual, expected = (pool(function, gates, c0, KEEP, out_mask_BH=mask) for function in (native.fo_pool, reference))
    assert_close(actual, expected, tolerance)


@needs_library
@pytest.mark.parametrize("team", ["torch", "own"])
def test_bits_depend_neither_on_threads_nor_on_the_run(team: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_MIN_ELEMENTS_PER_THREAD", 1)
    gates, c0 = single(9, 5, 3 * 1300), single(5, 1300)
    first, *others = on_threads(lambda: pool(native.fo_pool, gates, c0, KEEP), monkeypatch, team)
    for other in others:
        assert_equal(first, other)


@needs_library
def test_non_temporal_stores_write_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    gates, c0 = single(5, 3, 3 * 164), single(3, 164)
    plain = pool(native.fo_pool, gates, c0, KEEP)
    monkeypatch.setattr(native, "_MIN_BYTES_STREAMED", 0)
    assert_equal(plain, pool(native.fo_pool, gates, c0, KEEP))


@needs_library
def test_large_results_reuse_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "MIN_BYTES", 1)
    buffers._idle.clear()
    gates, c0 = single(5, 3, 3 * 64), single(3, 64)
    expected = pool(reference, gates, c0, KEEP)
    first = pool(native.fo_pool, gates, c0, KEEP)
    part = first[0][2:]
    address = first[0].data_ptr()
    del first
    second = pool(native.fo_pool, gates, c0, KEEP)
    assert second[0].data_ptr() != address, "a view holds the memory of its base"
    del part
    third = pool(native.fo_pool, gates, c0, KEEP)
    assert_close(second, expected, 1e-5)
    assert_close(third, expected, 1e-5)
    monkeypatch.setattr(buffers, "MAX_IDLE_BYTES", 0)
    del second, third
    assert not buffers._idle


@needs_library
def test_opcheck() -> None:
    gates, c0 = single(4, 2, 9).requires_grad_(), single(2, 3).requires_grad_()
    operator = torch.ops.fo_pool.native.default
    torch.library.opcheck(operator, (gates, c0, None, None, True))
    quick = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(operator, (gates, c0, single(4, 2, 3), single(2, 3), True), test_utils=quick)
    torch.library.opcheck(operator, (single(4, 2, 6).requires_grad_(), c0, None, None, False), test_utils=quick)


def test_without_the_library_auto_takes_the_next_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "path", lambda: None)
    library._library_or_reason.cache_clear()
    try:
        reason = native.unavailable("cpu")
        assert reason is not None
        assert "was not built: install a C compiler" in reason
        assert lm_kernels.resolve("fo_pool")[0] == "unrolled"
        with pytest.raises(ValueError, match="native: its library was not built"):
            lm_kernels.resolve("fo_pool", "native")
    finally:
        library._library_or_reason.cache_clear()


def test_runs_on_the_cpu_only() -> None:
    assert native.unavailable("cuda") == "it runs on the cpu, not on cuda"
    with pytest.raises(ValueError, match="gates_TBG must be on cpu for backend native, got meta"):
        native.fo_pool(torch.zeros(1, 1, 3, device="meta"), torch.zeros(1, 1, device="meta"))


@needs_library
@pytest.mark.slow
@pytest.mark.skipif(psutil.virtual_memory().available < 32 << 30, reason="needs 32 GiB of free memory")
def test_more_elements_than_32_bits_count() -> None:
    steps, hidden = 3, (1 << 30) // 3 + 64
    gates, c0 = torch.zeros(steps, 1, 3 * hidden), torch.zeros(1, hidden)
    gates[..., -1], gates[:, :, hidden - 1], gates[:, :, 2 * hidden - 1] = 1e4, 1e4, 1e4
    h, c = native.fo_pool(gates, c0)
    assert gates.numel() > 1 << 31
    assert h[-1, 0, -1] == 1
    assert c[0, :-1].abs().max() == 0
