"""CUDA kernels of QRNN pooling for Triton's compiler and its interpreter. Importing this needs triton.

Letters: T time, B stream, H hidden. A column is one (b, h); a program scans BLOCK columns over one chunk of time.
An operand is a tuple: a pointer, then its strides in elements (time or chunk, stream, hidden), 0 and negative allowed.
`sizes` is (T, H, B H, steps per chunk). Offsets are 64-bit. The carry is held in ACC, float32 or float64.

Loads run UNROLL steps ahead of the arithmetic, so that a group of steps is computed while the next one is loaded.
An address is the column's pointer plus the step's scalar offset, computed for each group of steps: incrementing one
pointer per operand would take so many registers that fewer columns fit on a multiprocessor. `left` counts, per column,
the steps from the current one to the last; it is 0 for columns beyond the end, so that one comparison masks both the
last block and the last steps. Loops use `while` because the interpreter of triton 3.6 accepts only constant bounds.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def sigmoid(x):
    """Return 1 / (1 + exp(-x)). The exponential of -|x| cannot overflow. NaN stays NaN."""
    e = tl.exp2(-1.4426950408889634 * tl.abs(x))
    return tl.where(x >= 0, 1.0, e) / (1.0 + e)


@triton.jit
def tanh(x):
    """Return (1 - exp(-2 |x|)) / (1 + exp(-2 |x|)) with the sign of x. NaN stays NaN."""
    e = tl.exp2(-2.8853900817779268 * tl.abs(x))
    return tl.where(x >= 0, 1.0 - e, e - 1.0) / (1.0 + e)


@triton.jit
def place(sizes, BLOCK: tl.constexpr):
    """Return the program's columns, their b and h, its chunk's first step, and the step after the chunk's last."""
    column = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    start = tl.program_id(1) * sizes[3]
    return column, column // sizes[1], column % sizes[1], start, tl.minimum(start + sizes[3], sizes[0])


@triton.jit
def at(operand, row, b, h):
    """Return pointers to the operand's columns at one row, which is a step or a chunk."""
    return operand[0] + row.to(tl.int64) * operand[1] + b * operand[2] + h * operand[3]


@triton.jit
def columns_of(gates, keep, b, h, num_hidden, OUTPUT_GATE: tl.constexpr):
    """Return pointers to the columns of z, f, o and keep at step 0; an absent one is replaced by f."""
    step = tl.program_id(1) * 0
    f_at = at(gates, step, b, h + num_hidden)
    o_at, keep_at = f_at, f_at
    if OUTPUT_GATE:
        o_at = at(gates, step, b, h + 2 * num_hidden)
    if keep is not None:
        keep_at = at(keep, step, b, h)
    return at(gates, step, b, h), f_at, o_at, keep_at


@triton.jit
def read(pointer, t, stride, left, other, ACC: tl.constexpr, UNROLL: tl.constexpr, BACK: tl.constexpr):
    """Return the values of UNROLL steps from t forward or, if BACK, backward; `other` beyond the last step."""
    values = ()
    pointer = pointer + t.to(tl.int64) * stride
    for u in tl.static_range(UNROLL):
        values += (tl.load(pointer, mask=left > u, other=other).to(ACC),)  # type: ignore[assignment]
        pointer = pointer - stride if BACK else pointer + stride
    return values


@triton.jit
def read_gates(
    gates, keep, ats, t, left, OUTPUT_GATE: tl.constexpr, ACC: tl.constexpr, UNROLL: tl.constexpr, BACK: tl.constexpr
):
    """Return z, f, o and keep, each as from `read`; an absent one is replaced by f without a load."""
    z = read(ats[0], t, gates[1], left, 0.0, ACC, UNROLL, BACK)
    f = read(ats[1], t, gates[1], left, 0.0, ACC, UNROLL, BACK)
    o, k = f, f
    if OUTPUT_GATE:
        o = read(ats[2], t, gates[1], left, 0.0, ACC, UNROLL, BACK)
    if keep is not None:
        k = read(ats[3], t, keep[1], left, 0.0, ACC, UNROLL, BACK)
    return z, f, o, k


@triton.jit
def forward(
    gates, keep, out_mask, starts, h_out, cells_out, last_out, sizes,
    OUTPUT_GATE: tl.constexpr, ACC: tl.constexpr, UNROLL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write h, the cells unless cells_out is None, and from the last chunk the last cell.

    starts: operand of the cell before each chunk. h_out and cells_out are (T, B, H), last_out (B, H), contiguous.
    keep and out_mask are operands or None.
    """
    column, b, h, t, stop = place(sizes, BLOCK)
    exists = column < sizes[2]
    left = tl.where(exists, stop - t, 0)
    c = tl.load(at(starts, tl.program_id(1), b, h), mask=exists, other=0.0).to(ACC)
    if out_mask is not None:
        scale = tl.load(at(out_mask, t, b, h), mask=exists, other=0.0).to(ACC)
    ats = columns_of(gates, keep, b, h, sizes[1], OUTPUT_GATE)
    row = t.to(tl.int64) * sizes[2]
    z, f, o, k = read_gates(gates, keep, ats, t, left, OUTPUT_GATE, ACC, UNROLL, False)
    while t < stop:
        ahead = read_gates(gates, keep, ats, t + UNROLL, left - UNROLL, OUTPUT_GATE, ACC, UNROLL, False)
        for u in tl.static_range(UNROLL):
            share = sigmoid(f[u])
            if keep is not None:
                share = share * k[u]
            c = tl.where(left > u, share * tanh(z[u]) + (1.0 - share) * c, c)
            if cells_out is not None:
                tl.store(cells_out + column + row, c, mask=left > u)
            out = c
            if OUTPUT_GATE:
                out = out * sigmoid(o[u])
            if out_mask is not None:
                out = out * scale
            tl.store(h_out + column + row, out, mask=left > u)
            row += sizes[2]
        z, f, o, k = ahead
        t += UNROLL
        left -= UNROLL
    tl.store(last_out + column, c, mask=tl.where(exists, stop, 0) == sizes[0])


@triton.jit
def backward(
    gates, keep, out_mask, cells, c0, dh, dcarries, dgates, dc0_out, sizes,
    OUTPUT_GATE: tl.constexpr, ACC: tl.constexpr, UNROLL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the gradient of the gates and, from the first chunk, that of c0. Activations are computed again.

    dcarries: operand of what reaches each chunk's last cell from later steps. dgates: operand. dc0_out is (B, H),
    contiguous. keep and out_mask are operands or None.
    """
    column, b, h, start, stop = place(sizes, BLOCK)
    exists = column < sizes[2]
    t = stop - 1
    left = tl.where(exists, stop - start, 0)
    # The cell before step t is one row earlier; before step 0 it is c0.
    none_before = tl.where(start == 0, 1, 0)
    c = tl.load(at(cells, t, b, h), mask=exists, other=0.0).to(ACC)
    initial = tl.load(at(c0, t, b, h), mask=exists, other=0.0).to(cells[0].dtype.element_ty)
    carry = tl.load(at(dcarries, tl.program_id(1), b, h), mask=exists, other=0.0).to(ACC)
    if out_mask is not None:
        scale = tl.load(at(out_mask, t, b, h), mask=exists, other=0.0).to(ACC)
    ats = columns_of(gates, keep, b, h, sizes[1], OUTPUT_GATE)
    cells_at = at(cells, t * 0, b, h)
    dh_at = at(dh, t * 0, b, h)
    dz_at, df_at, do_at, _ = columns_of(dgates, None, b, h, sizes[1], OUTPUT_GATE)
    row = t.to(tl.int64) * dgates[1]
    z, f, o, k = read_gates(gates, keep, ats, t, left, OUTPUT_GATE, ACC, UNROLL, True)
    before = read(cells_at, t - 1, cells[1], left - none_before, initial, ACC, UNROLL, True)
    g = read(dh_at, t, dh[1], left, 0.0, ACC, UNROLL, True)
    while t >= start:
        t -= UNROLL
        ahead = left - UNROLL
        next_gates = read_gates(gates, keep, ats, t, ahead, OUTPUT_GATE, ACC, UNROLL, True)
        next_before = read(cells_at, t - 1, cells[1], ahead - none_before, initial, ACC, UNROLL, True)
        next_g = read(dh_at, t, dh[1], ahead, 0.0, ACC, UNROLL, True)
        for u in tl.static_range(UNROLL):
            gradient = g[u]
            if out_mask is not None:
                gradient = gradient * scale
            if OUTPUT_GATE:
                opened = sigmoid(o[u])
                tl.store(do_at + row, gradient * c * opened * (1.0 - opened), mask=left > u)
                gradient = gradient * opened
            gradient = gradient + carry
            candidate = tanh(z[u])
            share = sigmoid(f[u])
            c = before[u]
            pull = gradient * (candidate - c) * share * (1.0 - share)
            if keep is not None:
                pull = pull * k[u]
                share = share * k[u]
            tl.store(df_at + row, pull, mask=left > u)
            tl.store(dz_at + row, gradient * share * (1.0 - candidate * candidate), mask=left > u)
            row -= dgates[1]
            carry = tl.where(left > u, (1.0 - share) * gradient, carry)
        z, f, o, k = next_gates
        before, g, left = next_before, next_g, ahead
    tl.store(dc0_out + column, carry, mask=tl.where(exists, start, 1) == 0)
