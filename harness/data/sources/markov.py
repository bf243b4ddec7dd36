"""The synthetic source as a dataset: sampled once, with its exact entropy rate as the limit of any model."""

from __future__ import annotations

import string
from dataclasses import asdict
from typing import Any

from harness.core.errors import DataError
from harness.data.config import MarkovSource
from harness.data.registry import SPLITS, Encoding

VERSION = 1
"""Changes whenever the same parameters would give other ids."""

UNIT = "char"


def identity(config: MarkovSource) -> dict[str, Any]:
    return {"name": "markov", "preparation": VERSION, **asdict(config)}


def title(config: MarkovSource) -> str:
    return f"Markov source (order {config.order}, {config.symbols} symbols)"


def event_space(config: MarkovSource) -> str:
    return (
        f"one token per symbol of a stationary chain of order {config.order} over {config.symbols} symbols; "
        f"every split is a chain of its own"
    )


def vocabulary(symbols: int) -> list[str]:
    """Letters where they suffice, else numbers."""
    if symbols <= len(string.ascii_lowercase):
        return list(string.ascii_lowercase[:symbols])
    return [str(symbol) for symbol in range(symbols)]


def encode(config: MarkovSource) -> Encoding:
    """Sample the three splits. Raises DataError for a source whose entropy rate cannot be computed exactly."""
    import numpy as np

    from models.markov import source

    shape = (config.order, config.symbols)
    try:
        table = source.table(*shape, config.concentration, config.seed)
        rate_bits = source.entropy_rate_bits(table, *shape)
        lower_bits = source.lower_order_entropy_bits(table, *shape)
        splits = {}
        for index, split in enumerate(SPLITS):
            # A seed of its own for each split: the test text stays the same when the training text grows.
            seed = int(np.random.SeedSequence([config.seed, index]).generate_state(1, np.uint64)[0])
            splits[split] = [source.sample(table, *shape, getattr(config, split), seed)]
    except ValueError as error:
        raise DataError(f"dataset markov: {error}") from None
    return Encoding(
        vocabulary=vocabulary(config.symbols),
        splits=splits,
        limits={"bpc": rate_bits},
        notes={"parameters": asdict(config), "entropy_rate_bits": rate_bits, "lower_order_entropy_bits": lower_bits},
    )
