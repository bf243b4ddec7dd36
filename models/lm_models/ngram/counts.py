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
Nodes = npt.NDArray[np.int32]

# Bytes per token that counting a level takes at most: the text and the nodes of three levels; keys, order and places,
# with a sorted copy of two of them; and the new level.
_BYTES_PER_TOKEN = 72


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
    """A level while it is counted: also the node of the n-gram that ends at each token (-1: none), and one such token
    for each node."""

    keys: Ids
    occurrences: Ids
    node_N: Nodes
    place: Ids


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
    text = np.asarray(ids, dtype=np.int32)
    if sentence_end is not None:
        text = np.concatenate([np.array([sentence_end], dtype=np.int32), text])
    levels, below = [], None
    for length, level in enumerate(_occurrences(text, order, vocab_size, sentence_end), start=1):
        if below is not None:
            levels.append(Level(below.keys, _preceding(below, level, text, length - 1, sentence_end)))
        below = level
    assert below is not None
    levels.append(Level(below.keys, below.occurrences))
    return levels


def _occurrences(text: Nodes, order: int, vocab_size: int, sentence_end: int | None) -> Iterator[_Nodes]:
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
        level = _children(parents, np.flatnonzero(has_parent), text, vocab_size)
        yield level


def _children(parents: Nodes, places: Ids, text: Nodes, vocab_size: int) -> _Nodes:
    """The level of the n-grams whose next to last tokens are at `places` of the text."""
    # Not np.unique: it holds more arrays at once. The stable sort is the faster one for keys with many repetitions.
    keys = parents[places].astype(np.int64) * vocab_size + text[places + 1]
    order = np.argsort(keys, kind="stable")
    keys, places = keys[order], places[order] + 1
    del order
    starts = np.flatnonzero(np.concatenate([np.ones(min(1, len(keys)), dtype=bool), keys[1:] != keys[:-1]]))
    occurrences = np.diff(starts, append=len(keys))
    node_N = np.full(len(text), -1, dtype=np.int32)
    node_N[places] = np.repeat(np.arange(len(starts), dtype=np.int32), occurrences)
    return _Nodes(keys[starts], occurrences, node_N, places[starts])


def _preceding(level: _Nodes, longer: _Nodes, text: Nodes, length: int, sentence_end: int | None) -> Ids:
    """How many different tokens precede each n-gram of a level (G,)."""
    # Each longer n-gram is one token before the n-gram that ends at the same place.
    counts: Ids = np.bincount(level.node_N[longer.place], minlength=len(level.keys))
    if sentence_end is None:
        if length <= len(text):
            counts[level.node_N[length - 1]] += 1
    elif length > 1:
        begins_sentence = text[level.place - length + 1] == sentence_end
        counts = np.where(begins_sentence, level.occurrences, counts)
    return counts


def _check_memory(num_tokens: int, length: int, order: int) -> None:
    needed, available = _BYTES_PER_TOKEN * num_tokens, psutil.virtual_memory().available
    if needed > available:
        raise ValueError(
            f"order {order} does not fit into memory: counting n-grams of {length} tokens may take "
            f"{needed / 1e9:.1f} GB, and {available / 1e9:.1f} GB are available; lower the order to {length - 1}"
        )
