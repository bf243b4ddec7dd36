"""Whole training steps to time: two QRNNs, two AWD-LSTMs. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

GEMMS = "gemms"
"""The participant that computes a step's matrix products and nothing else."""

CHAIN, NN_LSTM = "chain", "torch.nn.LSTM"
COMPARISON = {"fo_pool": CHAIN, "lstm": NN_LSTM}
"""What speed-ups are over: the QRNN with the official code's chain as its pooling; torch's own layers, undropped."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A model's config, the op it runs, streams and BPTT of a window, and the symbols its random ids are drawn from."""

    name: str
    op: str
    builder: str
    model: Mapping[str, Any]
    batch: int
    bptt: int
    vocab_size: int = 50
    quick: bool = False

    @property
    def tokens_per_step(self) -> int:
        return self.batch * self.bptt

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _qrnn(layers: int, hidden: int, embedding: int) -> dict[str, Any]:
    return {"layers": layers, "hidden": hidden, "embedding": embedding}


def _lstm(layers: int, hidden: int, embedding: int) -> dict[str, Any]:
    return {"layers": layers, "hidden": hidden, "embedding": embedding, "dropout": {"weight": 0.5}}


ENTRIES = {
    entry.name: entry
    for entry in (
        Entry("qrnn-4x256", "fo_pool", "qrnn", _qrnn(4, 256, 64), batch=32, bptt=100, quick=True),
        Entry("qrnn-6x1024", "fo_pool", "qrnn", _qrnn(6, 1024, 128), batch=32, bptt=70),
        Entry("lstm-2x256", "lstm", "awd-lstm", _lstm(2, 256, 64), batch=32, bptt=100, quick=True),
        Entry("lstm-3x1000", "lstm", "awd-lstm", _lstm(3, 1000, 200), batch=32, bptt=70),
    )
}
