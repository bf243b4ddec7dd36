"""The compiled backend: accuracy in ulp, the same bits on any threads, torch.compile, autocast, and life without it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import kernels
from kernels.compiled import buffers, library
from kernels.fo_pool import native
from kernels.fo_pool.reference import fo_pool as reference

built = pytest.mark.skipif(native.unavailable("cpu") is not None, reason=str(native.unavailable("cpu")))
LEVELS = range(1, 1 + library.num_levels()) if native.unavailable("cpu") is None else range(1, 2)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def ulps(got: Tensor, exact: Tensor) -> float:
    """Largest distance in units of the last place of a float32 as large as the exact value; denormals are left out."""
    normal = exact.abs() >= torch.finfo(torch.float32).tiny
    _, exponent = torch.frexp(exact)
    unit = torch.ldexp(torch.ones_like(exact), exponent - 24)
    return ((got.double() - exact).abs() / unit)[normal].max().item()


@built
@pytest.mark.parametrize("level", LEVELS)
def test_gates_and_states_are_within_four_ulp(level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "num_levels", lambda: level)
    x = torch.cat([torch.linspace(-87, 87, 30001), 3 * draw(30000), torch.logspace(-30, 1, 5000).neg()]).view(1, 1, -1)
    one, c0 = torch.full_like(x, 1e4), torch.zeros(1, x.shape[2])
    exact = {"z": torch.tanh(x.double()), "f": torch.sigmoid(x.double()), "o": torch.sigmoid(x.double())}
    for index, name in enumerate(exact):
        parts = [one, one, one]
        parts[index] = x  # the other gates are open: h is this one
        h, _ = native.fo_pool(torch.cat(parts, dim=-1), c0)
        assert ulps(h, exact[name]) <= 3, name
    gates, c0 = 2 * draw(150, 4, 3 * 256), draw(4, 256).abs()
    gates[..., :256].abs_()  # nothing cancels: the state's relative error is defined
    _, c = native.fo_pool(gates, c0)
    _, exact_c = reference(gates.double(), c0.double())
    assert ulps(c, exact_c) <= 4


@built
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_instruction_set_equals_the_reference(
    level: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "num_levels", lambda: level)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-13
    gates, c0, mask = 3 * draw(12, 3, 3 * 70, dtype=dtype), draw(3, 70, dtype=dtype), draw(3, 70, seed=1, dtype=dtype)
    got, want = (_all(function, gates, c0, mask) for function in (native.fo_pool, reference))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def _all(function: object, gates: Tensor, c0: Tensor, mask: Tensor | None) -> list[Tensor]:
    gates, c0 = gates.detach().requires_grad_(), c0.detach().requires_grad_()
    h, c = function(gates, c0, torch.tensor(0.9), out_mask_BH=mask)  # type: ignore[operator]
    (h.square().sum() + c.sum()).backward()
    assert gates.grad is not None
    assert c0.grad is not None
    return [h.detach(), c.detach(), gates.grad, c0.grad]


@built
@pytest.mark.parametrize("team", ["torch", "own"])
def test_bits_depend_neither_on_threads_nor_on_the_run(team: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if team == "own":
        monkeypatch.setattr(library, "team", lambda: None)
    monkeypatch.setattr(native, "_MIN_ELEMENTS_PER_THREAD", 1)
    gates, c0, threads = draw(9, 5, 3 * 1300), draw(5, 1300), torch.get_num_threads()
    found = []
    try:
        for num_threads in (1, 2, 3, 2):
            torch.set_num_threads(num_threads)
            found.append(_all(native.fo_pool, gates, c0, None))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@built
def test_results_written_past_the_caches_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    gates, c0 = draw(5, 3, 3 * 164), draw(3, 164)
    plain = _all(native.fo_pool, gates, c0, None)
    monkeypatch.setattr(native, "_MIN_BYTES_STREAMED", 0)
    assert all(torch.equal(a, b) for a, b in zip(plain, _all(native.fo_pool, gates, c0, None), strict=True))


@built
def test_large_results_use_memory_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "MIN_BYTES", 1)
    buffers._idle.clear()
    gates, c0 = draw(5, 3, 3 * 64), draw(3, 64)
    want = _all(reference, gates, c0, None)
    first = _all(native.fo_pool, gates, c0, None)
    part = first[0][2:]
    address = first[0].data_ptr()
    del first
    second = _all(native.fo_pool, gates, c0, None)
    assert second[0].data_ptr() != address, "a view keeps the memory of the whole"
    del part
    third = _all(native.fo_pool, gates, c0, None)
    for got in (second, third):
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    monkeypatch.setattr(buffers, "MAX_IDLE_BYTES", 0)
    del second, third, got, a
    assert not buffers._idle


@built
def test_opcheck() -> None:
    gates, c0 = draw(4, 2, 9).requires_grad_(), draw(2, 3).requires_grad_()
    operator = torch.ops.fo_pool.native.default
    torch.library.opcheck(operator, (gates, c0, None, None, True))
    quick = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(operator, (gates, c0, draw(4, 2, 3), draw(2, 3), True), test_utils=quick)
    torch.library.opcheck(operator, (draw(4, 2, 6).requires_grad_(), c0, None, None, False), test_utils=quick)


@built
def test_compiles_whole_and_keeps_gradients_under_autocast() -> None:
    x, weight, c0, mask = draw(4, 2, 5), draw(5, 9).requires_grad_(), draw(2, 3), draw(2, 3)

    def loss(x: Tensor, weight: Tensor) -> Tensor:
        h, c = native.fo_pool(x @ weight, c0, torch.tensor(0.7), out_mask_BH=mask)
        return h.square().sum() + c.sum()

    (eager,) = torch.autograd.grad(loss(x, weight), weight)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (found,) = torch.autograd.grad(compiled(x, weight), weight)
    torch.testing.assert_close(found, eager)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h, c = native.fo_pool(x @ weight, c0)
        assert h.dtype == c.dtype == torch.float32
        (found,) = torch.autograd.grad(loss(x, weight), weight)
    torch.testing.assert_close(found, eager, atol=0.1, rtol=0.1)


def test_without_its_library_auto_goes_on_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "path", lambda: None)
    library._find.cache_clear()
    try:
        reason = native.unavailable("cpu")
        assert reason is not None
        assert "was not built: install a C compiler" in reason
        assert kernels.resolve("fo_pool")[0] == "unrolled"
        with pytest.raises(ValueError, match="native: its library was not built"):
            kernels.resolve("fo_pool", "native")
    finally:
        library._find.cache_clear()


def test_runs_on_the_cpu_only() -> None:
    assert native.unavailable("cuda") == "it runs on the cpu, not on cuda"
    with pytest.raises(ValueError, match="gates_TBG must be on cpu for backend native, got meta"):
        native.fo_pool(torch.zeros(1, 1, 3, device="meta"), torch.zeros(1, 1, device="meta"))


@built
@pytest.mark.gpu
@pytest.mark.slow
def test_more_elements_than_32_bits_count() -> None:
    """Runs where a GPU does: such machines have the memory for it (26 GB)."""
    steps, hidden = 3, (1 << 30) // 3 + 64
    gates, c0 = torch.zeros(steps, 1, 3 * hidden), torch.zeros(1, hidden)
    gates[..., -1], gates[:, :, hidden - 1], gates[:, :, 2 * hidden - 1] = 1e4, 1e4, 1e4
    h, c = native.fo_pool(gates, c0)
    assert gates.numel() > 1 << 31
    assert h[-1, 0, -1] == 1
    assert c[0, :-1].abs().max() == 0
