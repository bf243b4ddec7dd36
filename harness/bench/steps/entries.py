"""Models whose training steps are timed: QRNNs and AWD-LSTMs. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lm_kernels

# Participants that are not backends: the matrix products of a step alone, the official code's chain of operations as
# the QRNN's pooling, and torch's own LSTM layers without weight drop.
GEMMS, CHAIN, NN_LSTM = "gemms", "chain", "torch.nn.LSTM"

# Participants of the comparison of dtypes: the model on the backend that `auto` takes, trained in that dtype, and the
# products of a step in bfloat16.
FLOAT32, BFLOAT16, BFLOAT16_GEMMS = "float32", "bfloat16", "gemms in bfloat16"
DTYPES = [FLOAT32, BFLOAT16, GEMMS, BFLOAT16_GEMMS]

# Requests to a child: `step` is answered by [milliseconds, loss in nats per token], `end` by [resident, device] bytes.
# The loss of the products alone, and the bytes on a device that is no CUDA device, are null. A reply that is text is
# the reason why the child cannot continue.
STEP, END = "step", "end"

# op -> the participant that speed-ups are relative to
COMPARISON = {"fo_pool": CHAIN, "lstm": NN_LSTM}


@dataclass(frozen=True, slots=True)
class StepEntry:
    """A model and the window it trains on.

    model is the config of `builder`; op the kernel whose backends are compared; batch streams of bptt steps make a
    window; ids are drawn uniformly from vocab_size symbols. quick entries belong to `--quick`.
    """

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

    @property
    def participants(self) -> list[str]:
        """The comparison, every backend but the reference, and the matrix products alone."""
        backends = [name for name in lm_kernels.KERNELS[self.op] if name != "reference"]
        return [COMPARISON[self.op], *backends, GEMMS]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepJob:
    """What a child has to build; threads: of torch, None for its default."""

    entry: StepEntry
    participant: str
    device: str
    threads: int | None


def _sizes(layers: int, hidden: int, embedding: int, **more: Any) -> Mapping[str, Any]:
    return {"layers": layers, "hidden": hidden, "embedding": embedding, **more}


_DROPPED = {"dropout": {"weight": 0.5}}
ENTRIES = {
    entry.name: entry
    for entry in (
        StepEntry("qrnn-4x256", "fo_pool", "qrnn", _sizes(4, 256, 64), batch=32, bptt=100, quick=True),
        StepEntry("qrnn-2x512", "fo_pool", "qrnn", _sizes(2, 512, 512), batch=16, bptt=64),
        StepEntry("qrnn-6x1024", "fo_pool", "qrnn", _sizes(6, 1024, 128), batch=32, bptt=70),
        StepEntry("lstm-2x256", "lstm", "awd-lstm", _sizes(2, 256, 64, **_DROPPED), batch=32, bptt=100, quick=True),
        StepEntry("lstm-1x512", "lstm", "awd-lstm", _sizes(1, 512, 512), batch=16, bptt=50),
        StepEntry("lstm-3x1000", "lstm", "awd-lstm", _sizes(3, 1000, 200, **_DROPPED), batch=32, bptt=70),
    )
}
