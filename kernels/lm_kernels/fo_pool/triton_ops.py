"""torch.library operators of the Triton backend: kernel launches and gradients.

Letters: T time, B stream, H hidden. triton is imported when a kernel is first launched.
"""

from __future__ import annotations

from math import isqrt
from typing import Any

import torch
from torch import Tensor

from lm_kernels import triton_launch
from lm_kernels.fo_pool import checks

# One column per thread: loads of neighbouring columns coalesce, and the shapes of large models fill the device.
_BLOCK = 128
_WARPS = 4
# The interpreter's time grows with the number of programs, not with their width.
_INTERPRETED_BLOCK = 2048
# Steps loaded ahead. With more of them, registers would limit the programs on a multiprocessor; a float64 value takes
# two registers.
_FORWARD_UNROLL = 4
_BACKWARD_UNROLL = 2
_SCAN_UNROLL = 8

Operand = tuple[Tensor, int, int, int]

_launch = triton_launch.launch


def interpreted() -> bool:
    """Whether the kernels run in Triton's interpreter on the CPU."""
    from lm_kernels.fo_pool import triton_kernels

    return triton_launch.is_interpreted(triton_kernels.forward)


def steps_per_chunk(num_steps: int, num_columns: int, num_multiprocessors: int) -> int:
    """Return how many steps a program scans: all of them, or fewer in the chunked scan. A pure function.

    Chunking reads the gates twice and starts three kernels instead of one. It is used for at least 512 steps if the
    columns give each multiprocessor fewer than 128 threads, a sixteenth of its capacity. The number of chunks brings it
    to 512 threads, with at least 64 steps per chunk and at most as many chunks as steps per chunk: otherwise the scan
    over the chunks would take longer than the scan inside one. Derived from latencies, not measured.

    Args:
        num_steps: T.
        num_columns: B H.
        num_multiprocessors: of the device.
    """
    if num_steps < 512 or num_columns >= 128 * num_multiprocessors:
        return num_steps
    num_chunks = -(-512 * num_multiprocessors // num_columns)
    return -(-num_steps // min(num_chunks, num_steps // 64, isqrt(num_steps)))


@torch.library.custom_op("fo_pool::triton", mutates_args=())
def forward(
    gates: Tensor,
    c0: Tensor,
    keep: Tensor | None,
    out_mask: Tensor | None,
    output_gate: bool,
    save_cells: bool,
    chunk_steps: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the forward kernels.

    Args:
        gates, c0, keep, out_mask, output_gate: as in `lm_kernels.fo_pool.reference.fo_pool`.
        save_cells: a backward pass may follow.
        chunk_steps: steps a program scans; 0 for `steps_per_chunk`.

    Returns:
        h, the cells (an empty tensor if not saved or the same as h), and the last cell.
    """
    from lm_kernels.fo_pool import triton_chunks, triton_kernels

    if gates.device.type != "cuda" and not interpreted():
        raise ValueError(f"fo_pool: gates_TBG must be on cuda for backend triton, got {gates.device}")
    h, cells, last = _outputs(gates, c0, out_mask, output_gate, save_cells)
    if c0.numel() == 0:
        return h, cells, last
    sizes, grid, meta = _plan(gates, c0, chunk_steps)
    masks = _operand(keep), _operand(out_mask)
    starts = _operand(c0)
    unroll = _FORWARD_UNROLL * torch.float32.itemsize // _carry(gates, c0).itemsize
    if grid[1] > 1:
        factors, offsets = _reductions(grid[1], c0, gates)
        _launch(
            triton_chunks.reduce_forward, grid, _operand(gates), masks[0], factors, offsets, sizes,
            OUTPUT_GATE=output_gate, UNROLL=unroll, **meta,
        )  # fmt: skip
        starts = _scan(factors, offsets, starts, sizes, meta, reverse=False)
    _launch(
        triton_kernels.forward, grid, _operand(gates), *masks, starts, h, cells if cells.numel() else None, last, sizes,
        OUTPUT_GATE=output_gate, UNROLL=unroll, **meta,
    )  # fmt: skip
    return h, cells, last


@torch.library.custom_op("fo_pool::triton_backward", mutates_args=())
def backward(
    dh: Tensor,
    dlast: Tensor,
    gates: Tensor,
    c0: Tensor,
    cells: Tensor,
    keep: Tensor | None,
    out_mask: Tensor | None,
    output_gate: bool,
    chunk_steps: int,
) -> tuple[Tensor, Tensor]:
    """Run the backward kernels.

    Args:
        dh, dlast: gradients of h and of the last cell.
        gates, c0, cells, keep, out_mask, output_gate, chunk_steps: of the forward pass.

    Returns:
        Gradients of gates and c0, in their dtypes, contiguous.
    """
    from lm_kernels.fo_pool import triton_chunks, triton_kernels

    dgates, dc0 = _like(gates), _like(c0)
    if c0.numel() == 0:
        return dgates, dc0
    sizes, grid, meta = _plan(gates, c0, chunk_steps)
    masks = _operand(keep), _operand(out_mask)
    carries = _operand(dlast)
    if grid[1] > 1:
        factors, offsets = _reductions(grid[1], c0, gates)
        _launch(
            triton_chunks.reduce_backward, grid, _operand(gates), *masks, _operand(dh), factors, offsets, sizes,
            OUTPUT_GATE=output_gate, UNROLL=_BACKWARD_UNROLL, **meta,
        )  # fmt: skip
        carries = _scan(factors, offsets, carries, sizes, meta, reverse=True)
    _launch(
        triton_kernels.backward, grid, _operand(gates), *masks, _operand(cells), _operand(c0), _operand(dh), carries,
        _operand(dgates), dc0, sizes, OUTPUT_GATE=output_gate, UNROLL=_BACKWARD_UNROLL, **meta,
    )  # fmt: skip
    return dgates, dc0


@forward.register_fake
def _(
    gates: Tensor, c0: Tensor, _keep: Any, out_mask: Tensor | None, output_gate: bool, save_cells: bool, _steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    return _outputs(gates, c0, out_mask, output_gate, save_cells)


@backward.register_fake
def _(_dh: Tensor, _dlast: Tensor, gates: Tensor, c0: Tensor, *_others: Any) -> tuple[Tensor, Tensor]:
    return _like(gates), _like(c0)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    gates, c0, keep, out_mask, output_gate, save_cells, chunk_steps = inputs
    h, cells, _ = output
    ctx.save_for_backward(gates, c0, cells if cells.dim() == 3 else h, keep, out_mask)
    ctx.output_gate, ctx.save_cells, ctx.chunk_steps = output_gate, save_cells, chunk_steps
    ctx.mark_non_differentiable(cells)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, dh: Tensor | None, _: Tensor | None, dlast: Tensor | None) -> tuple[Any, ...]:
    if not ctx.save_cells:
        raise RuntimeError("fo_pool::triton was called without save_cells and has no gradient")
    gates, c0, cells, keep, out_mask = ctx.saved_tensors
    # A missing gradient is a single zero read with strides of 0, which costs no memory.
    if dh is None:
        dh = cells.new_zeros(()).expand(cells.shape)
    if dlast is None:
        dlast = cells.new_zeros(()).expand(c0.shape)
    dgates, dc0 = backward(dh, dlast, gates, c0, cells, keep, out_mask, ctx.output_gate, ctx.chunk_steps)
    return dgates, dc0, None, None, None, None, None


forward.register_autograd(_differentiate, setup_context=_save)


def _outputs(
    gates: Tensor, c0: Tensor, out_mask: Tensor | None, output_gate: bool, save_cells: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Allocate h, cells and last cell. cells is empty if h is the cells: without an output gate and a mask."""
    h_dtype, dtype = checks.result_dtypes(gates, c0)
    shape = (*gates.shape[:2], c0.shape[1])
    is_h = not output_gate and out_mask is None and h_dtype == dtype
    cells_shape = shape if save_cells and not is_h else (0,)
    h = gates.new_empty(shape, dtype=h_dtype)
    return h, gates.new_empty(cells_shape, dtype=dtype), gates.new_empty(shape[1:], dtype=dtype)


def _carry(gates: Tensor, c0: Tensor) -> torch.dtype:
    """Dtype in which the cell is carried."""
    return torch.float64 if torch.float64 in (gates.dtype, c0.dtype) else torch.float32


def _like(value: Tensor) -> Tensor:
    return torch.empty_like(value, memory_format=torch.contiguous_format)


def _plan(gates: Tensor, c0: Tensor, chunk_steps: int) -> tuple[tuple[int, ...], tuple[int, int], dict[str, Any]]:
    """Return the kernels' sizes, the grid (blocks of columns, chunks of time) and the options of every launch."""
    import triton.language as tl

    num_steps, num_columns = gates.shape[0], c0.numel()
    if chunk_steps == 0:
        # The interpreter on a CPU counts as one multiprocessor.
        on_cuda = gates.device.type == "cuda"
        num_sms = torch.cuda.get_device_properties(gates.device).multi_processor_count if on_cuda else 1
        chunk_steps = steps_per_chunk(num_steps, num_columns, num_sms)
    block = _INTERPRETED_BLOCK if interpreted() else _BLOCK
    grid = -(-num_columns // block), -(-num_steps // chunk_steps)
    # Fused multiply-adds explicitly, because Triton's default may change.
    meta = {
        "ACC": tl.float64 if _carry(gates, c0) == torch.float64 else tl.float32,
        "BLOCK": block,
        "num_warps": _WARPS,
        "enable_fp_fusion": True,
    }
    return (num_steps, c0.shape[1], num_columns, chunk_steps), grid, meta


def _operand(value: Tensor | None) -> Operand | None:
    """Return a tensor with its strides over time, stream and hidden; one without time has stride 0 there."""
    if value is None:
        return None
    *time, stream, hidden = value.stride()
    return value, time[0] if time else 0, stream, hidden


def _reductions(num_chunks: int, c0: Tensor, gates: Tensor) -> tuple[Tensor, Tensor]:
    """Return empty factors and offsets, (chunks, B H), in the carry's dtype."""
    factors = c0.new_empty((num_chunks, c0.numel()), dtype=_carry(gates, c0))
    return factors, torch.empty_like(factors)


def _scan(
    factors: Tensor,
    offsets: Tensor,
    initial: Operand | None,
    sizes: tuple[int, ...],
    meta: dict[str, Any],
    *,
    reverse: bool,
) -> Operand | None:
    """Return the value that enters each chunk, given each chunk's map and the value that enters the first one.

    With `reverse` the scan starts at the last chunk.
    """
    from lm_kernels.fo_pool import triton_chunks

    carries = torch.empty_like(factors)
    grid = -(-sizes[2] // meta["BLOCK"]), 1
    _launch(
        triton_chunks.scan_chunks, grid, factors, offsets, initial, carries, sizes, factors.shape[0],
        REVERSE=reverse, UNROLL=_SCAN_UNROLL, **meta,
    )  # fmt: skip
    return _operand(carries.view(factors.shape[0], -1, sizes[1]))
