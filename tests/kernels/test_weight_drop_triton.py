"""The Triton backend of weight dropout: compiled ahead of time, and on a device if there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from kernel_support import compile_only, needs_cuda, needs_triton
from test_weight_drop import python_words

from lm_kernels.weight_drop import triton as backend
from lm_kernels.weight_drop.reference import weight_drop as reference


@needs_triton
def test_a_tensor_of_another_device_is_refused() -> None:
    with pytest.raises(ValueError, match="raw must be on cuda for backend triton, got cpu"):
        backend.weight_drop(torch.zeros(3), 0.5, torch.tensor(1))


COMPILED = [
    (capability, dtype)
    for capability in (80, 90)
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16)
]
QUICK = [(80, torch.float64), (90, torch.float32), (90, torch.bfloat16)]


@needs_triton
@pytest.mark.parametrize(
    ("capability", "dtype"),
    [
        pytest.param(*each, marks=() if each in QUICK else pytest.mark.slow, id="-".join(map(str, each)))
        for each in COMPILED
    ],
)
def test_compiles_ahead_of_time_without_spills(
    capability: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With at most 32 registers per thread a multiprocessor can hold its maximum number of threads."""
    kernel_usage = compile_only(monkeypatch, backend, capability, tmp_path)
    monkeypatch.setattr(backend, "_INTERPRETED_COUNTERS", backend._COUNTERS)
    raw = torch.zeros(40, 33, dtype=dtype, requires_grad=True)
    dropped = backend.weight_drop(raw, 0.3, torch.tensor(1))
    usages = [kernel_usage.pop("drop")]
    dropped.backward(torch.zeros_like(dropped))
    usages.append(kernel_usage.pop("drop"))
    for usage in usages:
        assert usage["STACK"] == usage["LOCAL"] == 0, f"spills: {usage}"
        assert usage["REG"] <= (40 if dtype == torch.float64 else 32), usage


class TestOnDevice:
    pytestmark = needs_cuda

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
    @pytest.mark.parametrize("shape", [(1,), (129,), (1000, 77)], ids=str)
    def test_the_same_bits_as_on_the_cpu(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        raw, seed = torch.randn(shape).to(dtype), torch.tensor(-987654321)
        dropped = backend.weight_drop(raw.cuda(), 0.3, seed.cuda())
        assert torch.equal(dropped.cpu(), reference(raw, 0.3, seed))
        assert torch.equal(reference(raw.cuda(), 0.3, seed.cuda()).cpu(), dropped.cpu())

    def test_a_captured_graph_uses_a_new_mask_at_each_replay(self) -> None:
        from lm_models import dropout

        raw = torch.ones(4000, 1000, device="cuda")
        generator = torch.Generator("cuda").manual_seed(1)
        dropout.weight(raw, 0.5, training=True, generator=generator)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            dropped = dropout.weight(raw, 0.5, training=True, generator=generator)
        graph.replay()
        first = dropped.clone()
        graph.replay()
        assert not torch.equal(first, dropped)
        assert abs((dropped == 0).double().mean().item() - 0.5) < 2e-3

    @pytest.mark.filterwarnings("ignore:Synchronization debug mode")
    def test_no_call_waits_for_the_device(self) -> None:
        raw, seed = torch.ones(1000, 100, device="cuda", requires_grad=True), torch.tensor(4, device="cuda")
        backend.weight_drop(raw, 0.5, seed).sum().backward()
        try:
            torch.cuda.set_sync_debug_mode("error")
            backend.weight_drop(raw, 0.5, seed).sum().backward()
            reference(raw, 0.5, seed).sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def test_more_elements_than_32_bits_count(self) -> None:
        if torch.cuda.mem_get_info()[0] < 20 << 30:
            pytest.skip("needs 20 GB of free device memory")
        raw = torch.ones((1 << 31) + 1000, dtype=torch.float16, device="cuda")
        dropped = backend.weight_drop(raw, 0.5, torch.tensor(3, device="cuda"))
        elements = range(1 << 31, raw.numel())
        expected = [word < 1 << 31 for word in python_words(elements, 3)]
        assert (dropped[elements.start :] == 0).tolist() == expected
