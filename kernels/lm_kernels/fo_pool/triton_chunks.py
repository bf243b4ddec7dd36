"""Chunked scan over few long streams, in three passes. Importing this needs triton.

A step maps c to (1 - f) c + f z, so any run of steps maps c to factor c + offset. The first pass reduces every chunk of
time to its factor and offset, all chunks in parallel; `scan_chunks` computes the cell that enters each chunk; the last
pass is that of `lm_kernels.fo_pool.triton_kernels`, with one program per chunk. The gradient of c runs backward in the
same way. Letters, operands, `sizes` and `left` as there. Factors, offsets and carries are (chunks, B H), in ACC.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lm_kernels.fo_pool.triton_kernels import at, columns_of, place, read, read_gates, sigmoid, tanh


@triton.jit
def reduce_forward(
    gates, keep, factors_out, offsets_out, sizes,
    OUTPUT_GATE: tl.constexpr, ACC: tl.constexpr, UNROLL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the map of each chunk from the cell before it to its last cell. The output gate is not involved."""
    column, b, h, t, stop = place(sizes, BLOCK)
    exists = column < sizes[2]
    left = tl.where(exists, stop - t, 0)
    factor = tl.full((BLOCK,), 1.0, ACC)
    offset = tl.full((BLOCK,), 0.0, ACC)
    ats = columns_of(gates, keep, b, h, sizes[1], False)
    z, f, _, k = read_gates(gates, keep, ats, t, left, False, ACC, UNROLL, False)
    while t < stop:
        next_z, next_f, _, next_k = read_gates(gates, keep, ats, t + UNROLL, left - UNROLL, False, ACC, UNROLL, False)
        for u in tl.static_range(UNROLL):
            share = sigmoid(f[u])
            if keep is not None:
                share = share * k[u]
            offset = tl.where(left > u, share * tanh(z[u]) + (1.0 - share) * offset, offset)
            factor = tl.where(left > u, (1.0 - share) * factor, factor)
        z, f, k = next_z, next_f, next_k
        t += UNROLL
        left -= UNROLL
    slot = tl.program_id(1).to(tl.int64) * sizes[2] + column
    tl.store(factors_out + slot, factor, mask=exists)
    tl.store(offsets_out + slot, offset, mask=exists)


@triton.jit
def reduce_backward(
    gates, keep, out_mask, dh, factors_out, offsets_out, sizes,
    OUTPUT_GATE: tl.constexpr, ACC: tl.constexpr, UNROLL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the map of each chunk from the gradient of its last cell to that of the cell before the chunk."""
    column, b, h, start, stop = place(sizes, BLOCK)
    exists = column < sizes[2]
    t = stop - 1
    left = tl.where(exists, stop - start, 0)
    factor = tl.full((BLOCK,), 1.0, ACC)
    offset = tl.full((BLOCK,), 0.0, ACC)
    if out_mask is not None:
        scale = tl.load(at(out_mask, t, b, h), mask=exists, other=0.0).to(ACC)
    ats = columns_of(gates, keep, b, h, sizes[1], OUTPUT_GATE)
    dh_at = at(dh, t * 0, b, h)
    # z is not needed; the compiler removes its unused loads.
    _, f, o, k = read_gates(gates, keep, ats, t, left, OUTPUT_GATE, ACC, UNROLL, True)
    g = read(dh_at, t, dh[1], left, 0.0, ACC, UNROLL, True)
    while t >= start:
        t -= UNROLL
        ahead = left - UNROLL
        _, next_f, next_o, next_k = read_gates(gates, keep, ats, t, ahead, OUTPUT_GATE, ACC, UNROLL, True)
        next_g = read(dh_at, t, dh[1], ahead, 0.0, ACC, UNROLL, True)
        for u in tl.static_range(UNROLL):
            gradient = g[u]
            if out_mask is not None:
                gradient = gradient * scale
            if OUTPUT_GATE:
                gradient = gradient * sigmoid(o[u])
            share = sigmoid(f[u])
            if keep is not None:
                share = share * k[u]
            offset = tl.where(left > u, (1.0 - share) * (gradient + offset), offset)
            factor = tl.where(left > u, (1.0 - share) * factor, factor)
        f, o, k, g, left = next_f, next_o, next_k, next_g, ahead
    slot = tl.program_id(1).to(tl.int64) * sizes[2] + column
    tl.store(factors_out + slot, factor, mask=exists)
    tl.store(offsets_out + slot, offset, mask=exists)


@triton.jit
def scan_chunks(
    factors, offsets, initial, carries_out, sizes, num_chunks,
    REVERSE: tl.constexpr, ACC: tl.constexpr, UNROLL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the value that enters each chunk. `initial`, an operand, enters the first one, or the last if REVERSE."""
    column, b, h, _, _ = place(sizes, BLOCK)
    exists = column < sizes[2]
    left = tl.where(exists, num_chunks, 0)
    i = tl.program_id(1)
    carry = tl.load(at(initial, i, b, h), mask=exists, other=0.0).to(ACC)
    stride = sizes[2]
    base = column
    if REVERSE:
        base = base + (i + num_chunks - 1).to(tl.int64) * sizes[2]
        stride = -stride
    factor = read(factors + base, i, stride, left, 0.0, ACC, UNROLL, False)
    offset = read(offsets + base, i, stride, left, 0.0, ACC, UNROLL, False)
    while i < num_chunks:
        next_factor = read(factors + base, i + UNROLL, stride, left - UNROLL, 0.0, ACC, UNROLL, False)
        next_offset = read(offsets + base, i + UNROLL, stride, left - UNROLL, 0.0, ACC, UNROLL, False)
        for u in tl.static_range(UNROLL):
            tl.store(carries_out + base + (i + u).to(tl.int64) * stride, carry, mask=left > u)
            carry = factor[u] * carry + offset[u]
        factor, offset = next_factor, next_offset
        i += UNROLL
        left -= UNROLL
