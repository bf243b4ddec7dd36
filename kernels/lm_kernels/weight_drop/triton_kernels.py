"""CUDA kernel of weight dropout for Triton's compiler and its interpreter. Importing this needs triton."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def drop(
    raw, seed, out, num_elements,
    DROP_BELOW: tl.constexpr, SCALE: tl.constexpr, ACC: tl.constexpr,
    LANES: tl.constexpr, WORDS: tl.constexpr, COUNTERS: tl.constexpr,
):  # fmt: skip
    """Write raw with elements dropped; both contiguous. seed: pointer to the int64, read on the device.

    A program uses COUNTERS counters, a multiple of LANES, and writes WORDS times as many elements. ACC is the dtype of
    the product. DROP_BELOW and SCALE follow from p, a constant of the model, and are compiled in as exact numbers.
    """
    counter = tl.program_id(0).to(tl.int64) * COUNTERS + tl.arange(0, COUNTERS)
    low = (counter & 0xFFFFFFFF).to(tl.uint32)
    high = (counter >> 32).to(tl.uint32)
    zero = low * 0
    words = tl.philox(tl.load(seed), low, high, zero, zero, 10)
    element = counter // LANES * (LANES * WORDS) + counter % LANES
    for word in tl.static_range(WORDS):
        at = element + word * LANES
        value = tl.load(raw + at, mask=at < num_elements, other=0.0).to(ACC)
        value = tl.where(words[word].to(tl.int64) < DROP_BELOW, 0.0, value * SCALE)
        tl.store(out + at, value, mask=at < num_elements)
