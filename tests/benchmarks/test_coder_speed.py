"""The coder's own cost: quantising given probabilities and coding with them, without a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

rows = pytest.importorskip("harness.evaluation.coding.rows")
pytest.importorskip("constriction", reason="the extra audit is not installed")

TOKENS = 1 << 17
# A text of characters, the same in one stream, and one of words: (streams, vocabulary, tokens).
CASES = [(64, 50, TOKENS), (1, 50, TOKENS // 16), (64, 10_000, TOKENS // 64)]


def text(streams: int, vocab_size: int, num_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (T, S) and their distributions (T, S, V), of which a few are repeated."""
    rng = np.random.default_rng(0)
    steps, kinds = num_tokens // streams, 64
    probs_KV = rng.dirichlet(np.full(vocab_size, 0.1), size=kinds)
    tokens_KN = np.array([rng.choice(vocab_size, size=64, p=probs_V) for probs_V in probs_KV])
    kinds_TS = rng.integers(kinds, size=(steps, streams))
    return tokens_KN[kinds_TS, rng.integers(64, size=kinds_TS.shape)], probs_KV[kinds_TS[:64]]


def encoded(tokens_TS: np.ndarray, probs_TSV: np.ndarray) -> np.ndarray:
    encoder = rows.Encoder()
    for step, tokens_S in enumerate(tokens_TS):
        encoder.encode(tokens_S, probs_TSV[step % len(probs_TSV)])
    words: np.ndarray = encoder.words()
    return words


def decoded(words: np.ndarray, probs_TSV: np.ndarray, steps: int) -> np.ndarray:
    decoder = rows.Decoder(words)
    return np.array([decoder.decode(probs_TSV[step % len(probs_TSV)]) for step in range(steps)])


@pytest.mark.parametrize(("streams", "vocab_size", "num_tokens"), CASES)
@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_coder(benchmark: Any, direction: str, streams: int, vocab_size: int, num_tokens: int) -> None:
    tokens_TS, probs_TSV = text(streams, vocab_size, num_tokens)
    words = encoded(tokens_TS, probs_TSV)
    assert (decoded(words, probs_TSV, len(tokens_TS)) == tokens_TS).all()
    if direction == "encode":
        benchmark.pedantic(encoded, (tokens_TS, probs_TSV), rounds=7, warmup_rounds=1)
    else:
        benchmark.pedantic(decoded, (words, probs_TSV, len(tokens_TS)), rounds=7, warmup_rounds=1)
    benchmark.extra_info["tokens_per_s"] = tokens_TS.size / benchmark.stats.stats.median
