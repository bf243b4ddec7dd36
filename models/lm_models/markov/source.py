"""A seeded Markov source whose entropy rate is known exactly. Imports numpy only.

A context is the last `order` symbols as a number with the most recent symbol least significant:
c = x[t-1] + S x[t-2] + S^2 x[t-3] + ..., so that symbol x changes context c to (c S + x) mod S^order.
Letters: S symbols, C = S^order contexts.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Table: TypeAlias = npt.NDArray[np.float64]

_TOLERANCE = 1e-14
# Limits of the power iteration: multiplications in all, and steps
_WORK, _MIN_STEPS, _MAX_STEPS = 1 << 31, 1000, 100_000


def table(order: int, symbols: int, concentration: float, seed: int) -> Table:
    """Draw the source's table, each row from a symmetric Dirichlet distribution.

    Args:
        order: symbols in a context; this and the other arguments are in the range of `config.Config`.
        symbols: S.
        concentration: of the Dirichlet distribution; small values give predictable text.
        seed: of the draw.

    Returns:
        Next-symbol probabilities, float64 (C, S).
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    rows: Table = rng.dirichlet(np.full(symbols, concentration), size=symbols**order)
    return rows


def stationary(table: Table, order: int, symbols: int) -> npt.NDArray[np.float64]:
    """Stationary distribution over contexts, by power iteration on the context chain.

    A step takes C S multiplications; no C x C matrix is built. The lazy chain (P + I) / 2 has the same fixed point as P
    and cannot oscillate. Two starts, uniform and a single context, must agree within 1e-14, which fails for a chain
    that is reducible or nearly so.

    Args:
        table: from `table`, (C, S).
        order: symbols in a context.
        symbols: S.

    Returns:
        Probabilities, float64 (C,).

    Raises:
        ValueError: the chain mixes too slowly, or the shape does not fit.
    """
    if table.shape != (symbols**order, symbols):
        raise ValueError(f"table must be {(symbols**order, symbols)} for order {order}, got {table.shape}")
    # Removing the oldest symbol d and appending x keeps the symbols r between them: one (d, x) product for each r.
    flow_rdx = table.reshape(symbols, -1, symbols).transpose(1, 0, 2)
    num_contexts = symbols**order
    pair: npt.NDArray[np.float64] = np.zeros((2, num_contexts))
    pair[0], pair[1, 0] = 1.0 / num_contexts, 1.0
    gap = 2.0
    for _ in range(min(max(_WORK // table.size, _MIN_STEPS), _MAX_STEPS)):
        pair_rpd = pair.reshape(2, symbols, -1).transpose(2, 0, 1)
        stepped = np.matmul(pair_rpd, flow_rdx).transpose(1, 0, 2).reshape(2, -1)
        pair = pair + stepped
        pair /= pair.sum(axis=1, keepdims=True)
        last_gap, gap = gap, float(np.abs(pair[0] - pair[1]).sum())
        if gap <= _TOLERANCE and gap >= last_gap:
            pi: npt.NDArray[np.float64] = 0.5 * (pair[0] + pair[1])
            return pi
    raise ValueError(
        f"a source of order {order} over {symbols} symbols mixes too slowly for an exact entropy rate: "
        f"raise the concentration or change the seed"
    )


def entropy_rate_bits(table: Table, order: int, symbols: int) -> float:
    """Entropy rate in bits per symbol: the sum over contexts of pi(c) H(table[c])."""
    pi = stationary(table, order, symbols)
    return float(pi @ _row_entropies_bits(table))


def lower_order_entropy_bits(table: Table, order: int, symbols: int) -> float:
    """Exact entropy in bits of a symbol given the `order - 1` before it: the best score with a shorter context."""
    pi = stationary(table, order, symbols)
    conditionals, weights = shorter_conditionals(table, pi, order - 1, symbols)
    return float(weights @ _row_entropies_bits(conditionals))


def shorter_conditionals(
    table: Table, pi: npt.NDArray[np.float64], length: int, symbols: int
) -> tuple[Table, npt.NDArray[np.float64]]:
    """Conditional distributions given fewer symbols than the order.

    Args:
        table: from `table`, (C, S).
        pi: stationary distribution over full contexts, (C,).
        length: known symbols.
        symbols: S.

    Returns:
        p(x | last `length` symbols), (S^length, S), uniform for a context of weight 0, and the stationary weight of
        each context, (S^length,).
    """
    joint = np.einsum("dr,drx->rx", pi.reshape(-1, symbols**length), table.reshape(-1, symbols**length, symbols))
    weights = joint.sum(axis=1)
    uniform = np.full_like(joint, 1.0 / symbols)
    rows = np.divide(joint, weights[:, None], out=uniform, where=weights[:, None] > 0)
    return rows, weights


def sample(table: Table, order: int, symbols: int, num_tokens: int, seed: int) -> npt.NDArray[np.uint8]:
    """Generate text: one stationary chain, whose first `order` tokens are drawn from the stationary distribution.

    Args:
        table: from `table`, (C, S).
        order: symbols in a context.
        symbols: S.
        num_tokens: length of the text.
        seed: of the text, independent of the table's.

    Returns:
        Ids (num_tokens,).

    Raises:
        ValueError: as `stationary`.
    """
    pi = stationary(table, order, symbols)
    # The spawn key makes this stream independent of the one that drew the table, even for equal seeds.
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(1,))))
    context = int(np.searchsorted(_cumulative(pi[None])[0], rng.random(), side="right"))
    first = [context // symbols**age % symbols for age in range(order - 1, -1, -1)]
    uniforms = rng.random(max(0, num_tokens - order)).tolist()
    cells = _walk(_cumulative(table), context, uniforms)
    return np.concatenate([np.array(first), cells % symbols])[:num_tokens].astype(np.uint8)


def _walk(cumulative: Table, context: int, uniforms: list[float]) -> npt.NDArray[np.int64]:
    """Flat table index (context S + symbol) of each step, which determines the next context and the symbol."""
    num_contexts, symbols = cumulative.shape
    flat = array("d", cumulative.tobytes())
    last = symbols - 1
    cells = [0] * len(uniforms)
    for step, uniform in enumerate(uniforms):
        start = context * symbols
        cell = bisect_right(flat, uniform, start, start + last)
        cells[step] = cell
        context = cell % num_contexts
    return np.array(cells, dtype=np.int64)


def _cumulative(probabilities: Table) -> Table:
    """Cumulative rows that end in exactly 1, so that a last symbol of probability 0 is never drawn."""
    sums = np.cumsum(probabilities, axis=1)
    rows: Table = sums / sums[:, -1:]
    return rows


def _row_entropies_bits(probabilities: Table) -> npt.NDArray[np.float64]:
    logs = np.log2(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
    entropies: npt.NDArray[np.float64] = -(probabilities * logs).sum(axis=1)
    return entropies
