"""Write a text as a file of the length that its score claims, and read it back: range coding with a model.

The file is one line of JSON, the header, and then 32-bit words of the range coder of `constriction`. Both directions
read one token per forward pass, so that their probabilities have the same bits. They have on the same machine with the
same software only: the header holds both, and `decode` refuses others. Letters: N tokens, V vocabulary.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch

from harness.core.errors import CheckpointError, DataError
from harness.core.interfaces import LanguageModel, LoadedModel
from harness.evaluation.protocols import device_of, module_of

FORMAT = "lm-harness text 1"
# A symbol has a multiple of 2^-24. In a larger vocabulary the multiples lost to unlikely tokens would show, so a token
# is coded there as two symbols: its row in a square, and its column.
_ONE_SYMBOL = 1024
_WORD = np.dtype("<u4")

Tick = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the bits of a probability depend on; they are the same in both directions."""

    model: str
    dtype: str
    device: str
    cpu: str
    threads: int
    torch: str
    constriction: str


def library() -> ModuleType:
    """The module `constriction`. Raises CheckpointError with what to install if it is missing."""
    try:
        import constriction
    except ImportError:
        raise CheckpointError("coding a text needs constriction: pip install 'lm-harness[audit]'") from None
    module: ModuleType = constriction
    return module


def settings_of(loaded: LoadedModel) -> Settings:
    """The settings here and now, for a model."""
    from importlib.metadata import version

    library()
    device = device_of(loaded.model)
    return Settings(
        model=loaded.sha256,
        dtype=loaded.dtype,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        cpu=f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        constriction=version("constriction"),
    )


def encode(loaded: LoadedModel, ids: np.ndarray, *, tick: Tick | None = None) -> bytes:
    """Write a text.

    Args:
        loaded: the model; its state begins at zero.
        ids: tokens (N,), at least one; the first is in the header, and the others are coded.
        tick: called with the number of tokens since the last call.

    Returns:
        The file.

    Raises:
        CheckpointError: constriction is missing, or the model gives no probabilities.
    """
    encoder = library().stream.queue.RangeEncoder()
    with _reading(loaded.model) as reader:
        for token, following in zip(ids[:-1].tolist(), ids[1:].tolist(), strict=True):
            _encode_token(encoder, reader.probabilities_after(token), following)
            if tick is not None:
                tick(1)
    header = {
        "format": FORMAT,
        **asdict(settings_of(loaded)),
        "tokens": len(ids),
        "first": int(ids[0]),
        "sha256": _digest(ids),
    }
    words: np.ndarray = encoder.get_compressed()
    return json.dumps(header).encode() + b"\n" + words.astype(_WORD).tobytes()


def decode(loaded: LoadedModel, file: bytes, *, tick: Tick | None = None) -> np.ndarray:
    """Read a text back; arguments as for `encode`, and the file.

    Returns:
        The tokens (N,).

    Raises:
        DataError: the file is damaged, or was written by another model, machine or software; the message says which.
        CheckpointError: constriction is missing, or the model gives no probabilities.
    """
    header, words = _parsed(file)
    for name, here in asdict(settings_of(loaded)).items():
        if header.get(name) != here:
            raise DataError(
                f"the text was coded with {name} {header.get(name)!r}, here it is {here!r}: its probabilities would "
                "have other bits; decode it where it was encoded"
            )
    decoder = library().stream.queue.RangeDecoder(words)
    ids = [int(header["first"])]
    with _reading(loaded.model) as reader:
        while len(ids) < header["tokens"]:
            ids.append(_decode_token(decoder, reader.probabilities_after(ids[-1])))
            if tick is not None:
                tick(1)
    if _digest(np.array(ids)) != header["sha256"]:
        raise DataError("the decoded text differs from the encoded one: the file is damaged, or the model is not exact")
    return np.array(ids)


def payload_bits(file: bytes) -> int:
    """Bits of a file without its header."""
    return 8 * (len(file) - file.index(b"\n") - 1)


class _Reader:
    """A model that reads one token after another."""

    def __init__(self, model: LanguageModel) -> None:
        self.model, self.device, self.state = model, device_of(model), model.initial_state(1)

    def probabilities_after(self, token: int) -> np.ndarray:
        """Distribution (V,) of the next token, float64."""
        h_1BH, self.state = self.model.features(torch.tensor([[token]], device=self.device), self.state)
        probs_V: np.ndarray = self.model.log_probs(h_1BH[0])[0].double().exp().cpu().numpy()
        return probs_V


@contextmanager
def _reading(model: LanguageModel) -> Iterator[_Reader]:
    module = module_of(model)
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield _Reader(model)
    except ValueError as error:
        raise CheckpointError(f"the model's probabilities cannot be coded: {' '.join(str(error).split())}") from None
    finally:
        module.train(was_training)


def _encode_token(encoder: Any, probs_V: np.ndarray, token: int) -> None:
    categorical = library().stream.model.Categorical
    if len(probs_V) <= _ONE_SYMBOL:
        encoder.encode(token, categorical(probs_V, perfect=False))
        return
    probs_RC = _square(probs_V)
    row, column = divmod(token, probs_RC.shape[1])
    encoder.encode(row, categorical(probs_RC.sum(1), perfect=False))
    encoder.encode(column, categorical(_some(probs_RC[row]), perfect=False))


def _decode_token(decoder: Any, probs_V: np.ndarray) -> int:
    categorical = library().stream.model.Categorical
    if len(probs_V) <= _ONE_SYMBOL:
        return int(decoder.decode(categorical(probs_V, perfect=False)))
    probs_RC = _square(probs_V)
    row = int(decoder.decode(categorical(probs_RC.sum(1), perfect=False)))
    column = int(decoder.decode(categorical(_some(probs_RC[row]), perfect=False)))
    token: int = row * probs_RC.shape[1] + column
    if token >= len(probs_V):
        raise DataError("the file is damaged: it holds a token outside the vocabulary")
    return token


def _square(probs_V: np.ndarray) -> np.ndarray:
    """The distribution as rows and columns of about equal number, the end filled with zeros."""
    columns = math.isqrt(len(probs_V) - 1) + 1
    rows = math.ceil(len(probs_V) / columns)
    return np.pad(probs_V, (0, rows * columns - len(probs_V))).reshape(rows, columns)


def _some(probs_C: np.ndarray) -> np.ndarray:
    """A row that can be normalised: one that is all zero has equal probabilities, in case a file holds it."""
    return probs_C if probs_C.any() else np.ones_like(probs_C)


def _digest(ids: np.ndarray) -> str:
    return hashlib.sha256(np.asarray(ids).astype("<u4").tobytes()).hexdigest()


def _parsed(file: bytes) -> tuple[dict[str, Any], np.ndarray]:
    line, _, payload = file.partition(b"\n")
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT or len(payload) % _WORD.itemsize:
        raise DataError(f"the file is damaged, or is none of {FORMAT!r}")
    return header, np.frombuffer(payload, _WORD).astype(np.uint32)
