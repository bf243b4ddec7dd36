"""Count the n-grams of a text as Kneser-Ney smoothing needs them. Imports numpy only.

The n-grams of length k are the nodes of level k of a tree: node number and next token make the key of a child,
parent V + token. A level is the sorted keys of its nodes; the nodes of level 1 are the tokens. Letters: N tokens of
the text, V vocabulary, G nodes of a level.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import psutil

Ids = npt.NDArray[np.int64]

# Bytes per token that counting a level takes at most: node numbers of three levels, the keys, their sorted copy and
# order, and the new level.
_BYTES_PER_TOKEN = 96


@dataclass(frozen=True, slots=True)
class Level:
    """The n-grams of one length.

    keys: int64 (G,), ascending; of level 1 the tokens.
    counts: int64 (G,). Of the longest n-grams, how often they occur. Of shorter ones, how many different tokens precede
        them, as Kneser and Ney define; where none can precede, because a sentence begins, how often they occur.
    """

    keys: Ids
    counts: Ids


@dataclass(frozen=True, slots=True)
class _Nodes:
    """A level while it is counted: also the node at which an n-gram ends at each token (-1: none), and where first."""

    keys: Ids
    occurrences: Ids
    node_N: Ids
    first: Ids


def count(ids: npt.NDArray[np.integer], order: int, vocab_size: int, sentence_end: int | None = None) -> list[Level]:
    """Count all n-grams up to a length.

    The beginning of the text counts as one more token that precedes: every n-gram has a count of at least 1.

    Args:
        ids: the text (N,), at least one token.
        order: the greatest length, at least 1.
        vocab_size: V.
        sentence_end: the token at the end of each sentence, also used for the beginning of the next one: an n-gram
            holds it at its ends only. The text begins a sentence. None for a text without sentences.

    Returns:
        The levels 1..order.

    Raises:
        ValueError: there is not enough memory.
    """
    text = np.asarray(ids, dtype=np.int64)
    if sentence_end is not None:
        text = np.concatenate([np.array([sentence_end], dtype=np.int64), text])
    levels, below = [], None
    for length, level in enumerate(_occurrences(text, order, vocab_size, sentence_end), start=1):
        if below is not None:
            levels.append(Level(below.keys, _preceding(below, level, text, length - 1, sentence_end)))
        below = level
    assert below is not None
    levels.append(Level(below.keys, below.occurrences))
    return levels


def _occurrences(text: Ids, order: int, vocab_size: int, sentence_end: int | None) -> Iterator[_Nodes]:
    """The levels 1..order with the number of occurrences."""
    # The token that was put before the first sentence is read, but never predicted.
    predicted = text if sentence_end is None else text[1:]
    tokens = np.arange(vocab_size)
    level = _Nodes(tokens, np.bincount(predicted, minlength=vocab_size), text, tokens)
    yield level
    for length in range(2, order + 1):
        _check_memory(len(text), length, order)
        parents = level.node_N[:-1]
        has_parent = parents >= 0
        if sentence_end is not None and length > 2:
            has_parent &= text[:-1] != sentence_end
        [places] = np.nonzero(has_parent)
        keys, first, node, occurrences = np.unique(
            parents[places] * vocab_size + text[places + 1],
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        node_N = np.full(len(text), -1, dtype=np.int64)
        node_N[places + 1] = node
        level = _Nodes(keys, occurrences, node_N, places[first] + 1)
        yield level


def _preceding(level: _Nodes, longer: _Nodes, text: Ids, length: int, sentence_end: int | None) -> Ids:
    """How many different tokens precede each n-gram of a level (G,)."""
    # Each longer n-gram is one token before the n-gram that ends at the same place.
    counts: Ids = np.bincount(level.node_N[longer.first], minlength=len(level.keys))
    if sentence_end is None:
        if length <= len(text):
            counts[level.node_N[length - 1]] += 1
    elif length > 1:
        begins_sentence = text[level.first - length + 1] == sentence_end
        counts = np.where(begins_sentence, level.occurrences, counts)
    return counts


def _check_memory(num_tokens: int, length: int, order: int) -> None:
    needed, available = _BYTES_PER_TOKEN * num_tokens, psutil.virtual_memory().available
    if needed > available:
        raise ValueError(
            f"order {order} does not fit into memory: counting n-grams of {length} tokens may take {needed / 1e9:.1f} GB, "
            f"and {available / 1e9:.1f} GB are available; lower the order to {length - 1}"
        )
