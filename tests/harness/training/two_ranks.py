"""Trainings that a test's process shares with another one. Not a test file.

The other is rank 1 and runs as `python two_ranks.py PORT FOLDER quick|rest`; both call `share`.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from leaky_model import corpus_of
from torch import distributed as dist

import lm_models
from harness.core.config.recipe import Averaging, Finetune, Recipe, Validation, WindowSampling
from harness.core.ranks import Ranks
from harness.evaluation import protocols
from harness.evaluation.blocks import Scored
from harness.training.progress import Hooks, Interrupted
from harness.training.trainer import Trainer
from lm_models.awd_lstm.config import Config as LstmConfig
from lm_models.config import Dropout
from lm_models.qrnn.config import Config as QrnnConfig

VOCAB = 13
DROPOUT = Dropout(embedding=0.1, input=0.2, hidden=0.2, output=0.3, weight=0.4)
SIZES: dict[str, Any] = {"layers": 2, "hidden": 10, "embedding": 8, "dropout": DROPOUT, "ar": 2.0, "tar": 1.0}
BUILDERS = {
    "awd-lstm": LstmConfig(**SIZES),
    "awd-lstm with cutoffs": LstmConfig(**SIZES, cutoffs=(5,)),
    "qrnn": QrnnConfig(**SIZES, zoneout=0.1),
}
WINDOWS = WindowSampling(std=3)
BATCH = 6
# 46 steps, and 66 with the second stage.
ADAM = Recipe(
    optimizer="adam", lr=2e-3, batch=BATCH, bptt=10, epochs=2, clip=0.25, weight_decay=1.2e-6, windows=WINDOWS,
    validation=Validation(streams=5, warmup=3, window=16),
)  # fmt: skip
AVERAGED = Recipe(
    optimizer="sgd", lr=5.0, batch=BATCH, bptt=10, epochs=2, clip=0.25, weight_decay=1.2e-6, windows=WINDOWS,
    validation=Validation(streams=1, every_tokens=400), averaging=Averaging(patience=1, official_handover=True),
    finetune=Finetune(epochs=1, patience=2),
)  # fmt: skip
TRAININGS = {
    "awd-lstm, adam": ("awd-lstm", ADAM),
    "qrnn, adam": ("qrnn", ADAM),
    "awd-lstm with cutoffs, averaged": ("awd-lstm with cutoffs", AVERAGED),
    "qrnn, averaged": ("qrnn", AVERAGED),
}
DTYPES = {"float64": torch.float64, "float32": torch.float32}
QUICK = [
    ("awd-lstm, adam", "float64"),
    ("awd-lstm with cutoffs, averaged", "float32"),
    ("qrnn, adam", "float32"),
    ("qrnn, averaged", "float64"),
]
PAIRS = {"quick": QUICK, "rest": [pair for pair in product(TRAININGS, DTYPES) if pair not in QUICK]}
# Stopped here and continued by the other number of processes.
STOP_AT = 17


def ids() -> np.ndarray:
    """A text whose symbols follow each other in no uniform way."""
    rng = np.random.default_rng(4)
    return (rng.zipf(1.5, 1200) % VOCAB).astype(np.uint16)


def train(name: str, dtype: str, folder: Path, ranks: Ranks | None, *, stop_at: int | None = None) -> Trainer:
    """Train, or continue, to the end or to a step."""
    builder, recipe = TRAININGS[name]
    torch.manual_seed(3)
    model = lm_models.build(builder.split()[0], BUILDERS[builder], vocab_size=VOCAB, kernel="auto")
    text = ids()

    def stop() -> bool:
        return trainer.progress.step == stop_at

    trainer = Trainer(
        model.to(DTYPES[dtype]),
        corpus_of(text, text[:401], text[:300], VOCAB),
        recipe,
        seed=5,
        folder=folder,
        identity={"model": {"builder": builder}},
        autocast=nullcontext,
        ranks=ranks,
        hooks=Hooks(stop=stop),
    )
    trainer.resume()
    try:
        trainer.fit()
    except Interrupted:
        assert trainer.progress.step == stop_at
    return trainer


def scores(ranks: Ranks | None) -> list[Scored]:
    """One text scored under each protocol that has several streams."""
    torch.manual_seed(3)
    model = lm_models.build("qrnn", BUILDERS["qrnn"], vocab_size=VOCAB, kernel="auto").double()
    return [
        protocols.score(model, ids(), protocols.streams(7, 20, 64), keep_nll=True, ranks=ranks),
        protocols.score(model, ids(), protocols.official(10, 64), ranks=ranks),
        protocols.score(model, ids(), protocols.exact(64), keep_nll=True, ranks=ranks),
    ]


def share(folder: Path, ranks: Ranks, which: str) -> tuple[dict[tuple[str, str], Trainer], list[Scored]]:
    """What both ranks do, in this order."""
    trained = {
        (name, dtype): train(name, dtype, folder / f"{name} {dtype}", ranks) for name, dtype in PAIRS[which]
    }  # fmt: skip
    if which == "rest":
        return trained, []
    train("qrnn, averaged", "float64", folder / "2 to 1", ranks, stop_at=STOP_AT)
    train("awd-lstm, adam", "float64", folder / "1 to 2", ranks)
    return trained, scores(ranks)


if __name__ == "__main__":
    torch.set_num_threads(1)
    others = Ranks(dist.TCPStore("127.0.0.1", int(sys.argv[1])), 1, 2)
    share(Path(sys.argv[2]), others, sys.argv[3])
    others.leave()
    # torch's own optimisers import it, which would take every training longer than torch itself.
    assert "torch._dynamo" not in sys.modules
