"""The synthetic source as a dataset: sampled once, with its exact entropy rate as the limit of any model."""

from __future__ import annotations

import string
from dataclasses import asdict

from harness.core.errors import DataError
from harness.data.config import MarkovSource
from harness.data.registry import SPLITS, DatasetFacts, Encoding

VERSION = 1  # raise it if the same parameters would give other ids


def facts(config: MarkovSource) -> DatasetFacts:
    """Everything is known from the parameters."""
    return DatasetFacts(
        name="markov",
        title=f"Markov source (order {config.order}, {config.symbols} symbols)",
        unit="char",
        event_space=f"one token per symbol of a stationary chain of order {config.order} over {config.symbols} "
        "symbols; every split is a chain of its own",
        vocab_size=config.symbols,
        num_tokens={split: getattr(config, split) for split in SPLITS},
    )


def identity(config: MarkovSource) -> dict[str, object]:
    """All parameters."""
    return {"name": "markov", "preparation": VERSION, **asdict(config)}


def encode(config: MarkovSource) -> Encoding:
    """Sample the three splits. Raises DataError for a source whose entropy rate cannot be computed exactly."""
    import numpy as np

    from harness.core.metrics import default_metric
    from harness.core.units import CHAR
    from lm_models.markov import source

    shape = (config.order, config.symbols)
    try:
        table = source.table(*shape, config.concentration, config.seed)
        rate_bits = source.entropy_rate_bits(table, *shape)
        lower_bits = source.lower_order_entropy_bits(table, *shape)
        splits = {}
        for index, split in enumerate(SPLITS):
            # Each split has its own seed: the test text stays the same if the training text grows.
            seed = int(np.random.SeedSequence([config.seed, index]).generate_state(1, np.uint64)[0])
            splits[split] = [source.sample(table, *shape, getattr(config, split), seed)]
    except ValueError as error:
        raise DataError(f"dataset markov: {error}") from None
    letters = string.ascii_lowercase
    return Encoding(
        vocabulary=letters[: config.symbols] if config.symbols <= 26 else [str(each) for each in range(config.symbols)],
        splits=splits,
        # The default metric of characters counts bits, as the entropy rate does.
        limits={default_metric(CHAR).name: rate_bits},
        notes={"parameters": asdict(config), "entropy_rate_bits": rate_bits, "lower_order_entropy_bits": lower_bits},
    )
