"""The paper's models at full size, as training loops to time on random tokens. Imports no torch.

Recipes: salesforce/awd-lstm-lm, README. None was published for the 6-layer QRNN; it uses the LSTM's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.core.config.speed import Speed


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopEntry:
    """A model, and the parts of its recipe that affect speed.

    model is the config of `builder`; batch streams of bptt steps make a window. Symbols are drawn by Zipf's law,
    p(rank r) ~ r ** -zipf, with ids as ranks. epoch_tokens and epochs of the full recipe give its duration.
    """

    name: str
    builder: str
    model: Mapping[str, Any]
    batch: int
    bptt: int
    lr: float
    weight_decay: float
    vocab_size: int
    zipf: float
    epoch_tokens: int
    epochs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopJob:
    """A training loop for a child process to time. dtype: of the products; threads: of torch, None for its default."""

    entry: LoopEntry
    dtype: str
    kernel: str
    speed: Speed
    device: str
    seconds: float
    threads: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopResult:
    """What a child measured: `error` is None exactly if there is a rate.

    unverified: the settings in use that no device has verified.
    """

    error: str | None
    tokens_per_s: float | None = None
    steps: int | None = None
    step_ms: float | None = None
    peak_rss_bytes: int | None = None
    peak_device_bytes: int | None = None
    peak_device_reserved_bytes: int | None = None
    unverified: Sequence[str] = ()


def _dropout(hidden: float, output: float, weight: float) -> dict[str, float]:
    return {"embedding": 0.0, "input": 0.1, "hidden": hidden, "output": output, "weight": weight}


# Exponents that give Zipf's law the entropy of the text: 4.33 bit for Penn Treebank's 50 characters, 5.08 for enwik8's
# 205 bytes. Words follow the law with exponent 1.
PTB_ZIPF, ENWIK8_ZIPF, WORD_ZIPF = 1.115, 1.214, 1.0


def _ptb(name: str, builder: str, layers: int, hidden: int, embedding: int) -> LoopEntry:
    return LoopEntry(
        name=name,
        builder=builder,
        model={"layers": layers, "hidden": hidden, "embedding": embedding, "dropout": _dropout(0.25, 0.1, 0.5)},
        batch=128,
        bptt=150,
        lr=2e-3,
        weight_decay=1.2e-6,
        vocab_size=50,
        zipf=PTB_ZIPF,
        epoch_tokens=5_017_482,
        epochs=500,
    )


LOOPS: Mapping[str, LoopEntry] = {
    entry.name: entry
    for entry in (
        _ptb("ptb-char-lstm-3x1000", "awd-lstm", 3, 1000, 200),
        _ptb("ptb-char-qrnn-6x1024", "qrnn", 6, 1024, 128),
        LoopEntry(
            name="enwik8-lstm-3x1840",
            builder="awd-lstm",
            model={"layers": 3, "hidden": 1840, "embedding": 400, "dropout": _dropout(0.1, 0.4, 0.2)},
            batch=128,
            bptt=200,
            lr=1e-3,
            weight_decay=1.2e-6,
            vocab_size=205,
            zipf=ENWIK8_ZIPF,
            epoch_tokens=90_000_000,
            epochs=50,
        ),
        LoopEntry(
            name="wikitext-103-qrnn-4x2500",
            builder="qrnn",
            model={
                "layers": 4,
                "hidden": 2500,
                "embedding": 400,
                "dropout": _dropout(0.1, 0.1, 0.0),
                "cutoffs": [2800, 20_000, 76_000],
                "tail_order": "reversed",
            },
            batch=60,
            bptt=140,
            lr=1e-3,
            weight_decay=0.0,
            vocab_size=267_735,
            zipf=WORD_ZIPF,
            epoch_tokens=103_227_021,
            epochs=14,
        ),
        # A smoke test for a CPU
        replace(_ptb("tiny-lstm-1x16", "awd-lstm", 1, 16, 16), batch=4, bptt=10),
    )
}
