"""QRNN pooling with its own backward pass: large operations over blocks of time steps, a small one per step.

Letters: T time, B stream, H hidden, G = 3 H with an output gate, else 2 H. Runs on every device of torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lm_kernels.fo_pool import checks

aten = torch.ops.aten

# Elements per block on a CPU: small enough for the five float32 temporaries of a block to stay in the last-level cache
_BLOCK_ELEMENTS = 1 << 17


def fo_pool(
    gates_TBG: Tensor,
    c0_BH: Tensor,
    keep_TBH: Tensor | None = None,
    *,
    output_gate: bool = True,
    out_mask_BH: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """As `lm_kernels.fo_pool.reference.fo_pool`; differentiable once."""
    gates_TBG, c0_BH, keep_TBH, out_mask_BH, h_dtype, c_dtype = checks.prepare(
        "unrolled", gates_TBG, c0_BH, keep_TBH, out_mask_BH, output_gate=output_gate
    )
    h_TBH, c_BH = _FoPool.apply(gates_TBG, c0_BH, keep_TBH, out_mask_BH, output_gate)  # type: ignore[no-untyped-call]
    return h_TBH.to(h_dtype), c_BH.to(c_dtype)


class _FoPool(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        gates_TBG: Tensor,
        c0_BH: Tensor,
        keep_TBH: Tensor | None,
        out_mask_BH: Tensor | None,
        output_gate: bool,
    ) -> tuple[Tensor, Tensor]:
        num_hidden = c0_BH.shape[-1]
        acts_TBG = torch.empty_like(gates_TBG, memory_format=torch.contiguous_format)
        cells_TBH = torch.empty_like(acts_TBG[..., :num_hidden], memory_format=torch.contiguous_format)
        h_TBH = torch.empty_like(cells_TBH) if output_gate or out_mask_BH is not None else cells_TBH
        previous_BH = c0_BH
        for block in _blocks(cells_TBH):
            acts = acts_TBG[block]
            _tanh(gates_TBG[block, :, :num_hidden], out=acts[..., :num_hidden])
            torch.sigmoid(gates_TBG[block, :, num_hidden:], out=acts[..., num_hidden:])
            z, f, *o = acts.split(num_hidden, dim=-1)
            step = f if keep_TBH is None else f * keep_TBH[block]
            cells = cells_TBH[block]
            for z_BH, step_BH, cell_BH in zip(z.unbind(0), step.unbind(0), cells.unbind(0), strict=True):
                torch.lerp(previous_BH, z_BH, step_BH, out=cell_BH)
                previous_BH = cell_BH
            h = torch.mul(o[0], cells, out=h_TBH[block]) if output_gate else cells
            if out_mask_BH is not None:
                torch.mul(h, out_mask_BH, out=h_TBH[block])
        ctx.save_for_backward(acts_TBG, cells_TBH, c0_BH, keep_TBH, out_mask_BH)
        ctx.output_gate = output_gate
        return h_TBH, previous_BH.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh_TBH: Tensor, dlast_BH: Tensor) -> tuple[Tensor | None, ...]:
        acts_TBG, cells_TBH, c0_BH, keep_TBH, out_mask_BH = ctx.saved_tensors
        num_hidden = c0_BH.shape[-1]
        dgates_TBG = torch.empty_like(acts_TBG)
        dnext_BH = dlast_BH
        for block in reversed(list(_blocks(cells_TBH))):
            z, f, *o = acts_TBG[block].split(num_hidden, dim=-1)
            dz, df, *do = dgates_TBG[block].split(num_hidden, dim=-1)
            cells = cells_TBH[block]
            dh = dh_TBH[block] if out_mask_BH is None else dh_TBH[block] * out_mask_BH
            keep = None if keep_TBH is None else keep_TBH[block]
            step = f if keep is None else f * keep
            if ctx.output_gate:
                aten.sigmoid_backward.grad_input(dh * cells, o[0], grad_input=do[0])

            carry, dc = 1 - step, dh * o[0] if ctx.output_gate else dh.clone(memory_format=torch.contiguous_format)
            dc_steps, carry_steps = dc.unbind(0), carry.unbind(0)
            dc_steps[-1].add_(dnext_BH)
            for t in range(len(dc_steps) - 1, 0, -1):
                dc_steps[t - 1].addcmul_(dc_steps[t], carry_steps[t])
            dnext_BH = dc_steps[0] * carry_steps[0]

            # d c_t / d step_t = z_t - c_{t-1}
            pull = torch.empty_like(dc)
            torch.sub(z[1:], cells[:-1], out=pull[1:])
            torch.sub(z[0], cells_TBH[block.start - 1] if block.start else c0_BH, out=pull[0])
            pull.mul_(dc)
            if keep is not None:
                pull.mul_(keep)
            aten.sigmoid_backward.grad_input(pull, f, grad_input=df)
            aten.tanh_backward.grad_input(dc.mul_(step), z, grad_input=dz)
        return dgates_TBG, dnext_BH, None, None, None


def _tanh(x: Tensor, *, out: Tensor) -> None:
    """Write tanh(x) to `out`."""
    # 2 sigmoid(2 x) - 1 takes a quarter of torch.tanh's time on a CPU; its error is at most 2e-7.
    if x.dtype == torch.float32 and x.device.type == "cpu":
        torch.mul(x, 2, out=out).sigmoid_().mul_(2).sub_(1)
    else:
        torch.tanh(x, out=out)


def _blocks(cells_TBH: Tensor) -> Iterator[slice]:
    """Cut time into blocks that fit a cache on a CPU; one block elsewhere, because launches dominate there."""
    num_steps = cells_TBH.shape[0]
    size = max(1, _BLOCK_ELEMENTS // max(1, cells_TBH[0].numel())) if cells_TBH.device.type == "cpu" else num_steps
    for start in range(0, num_steps, size):
        yield slice(start, min(start + size, num_steps))
