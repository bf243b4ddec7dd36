"""Write tokens as a code of the length that their loss claims, and read them back.

Both directions read one token of each stream per forward pass, so that their probabilities have the same bits. They
have on the same machine with the same software only: the header holds both, and `decode` refuses others. Letters: N
tokens, S streams, V vocabulary.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from harness.core.errors import CheckpointError, DataError
from harness.core.interfaces import LanguageModel, LoadedModel
from harness.evaluation.coding import container, rows
from harness.evaluation.coding.settings import settings_of
from harness.evaluation.protocols import device_of, module_of

# Called with the number of tokens since the last call.
Tick = Callable[[int], None]
# Called with the name of a part of the work and its number of tokens; returns its Tick, if any.
OnStart = Callable[[str, int], "Tick | None"]


def ignore_start(part: str, num_tokens: int) -> None:
    """An `OnStart` that reports nothing."""


def encode(loaded: LoadedModel, ids: np.ndarray, *, tick: Tick | None = None) -> bytes:
    """Write a text of tokens, in one stream.

    Args:
        loaded: the model; its state begins at zero.
        ids: tokens (N,), at least one; the first is in the header, and the others are coded.
        tick: called after each token.

    Returns:
        The file.

    Raises:
        CheckpointError: constriction is missing, or the model gives no probabilities.
    """
    settings = settings_of(loaded)
    words = encode_streams(loaded.model, ids[1:], start=int(ids[0]), streams=1, tick=tick)
    return container.pack(
        settings, _content(ids[1:]), words, b"", num_tokens=len(ids) - 1, streams=1, start=int(ids[0])
    )


def decode(loaded: LoadedModel, file: bytes, *, tick: Tick | None = None) -> np.ndarray:
    """Read a text back; arguments as for `encode`, and the file.

    Returns:
        The tokens (N,).

    Raises:
        DataError: the file is damaged, or was written by another model, machine or software; the message says which.
        CheckpointError: constriction is missing, or the model gives no probabilities.
    """
    coded = container.unpack(file)
    ids = decode_streams(loaded, coded, tick=tick)
    container.check_content(_content(ids), coded.header)
    return np.concatenate([[coded.header.start], ids])


def payload_bits(file: bytes) -> int:
    """Bits of the range coder's words in a file."""
    return 8 * container.unpack(file).header.code_bytes


def encode_streams(
    model: LanguageModel, ids: np.ndarray, *, start: int, streams: int, tick: Tick | None = None
) -> np.ndarray:
    """Encode tokens in parallel streams.

    Args:
        model: each stream begins with its zero state.
        ids: tokens (N,).
        start: token that each stream reads before its first.
        streams: S, at most N: parts of about equal length, in their order.
        tick: called after each step with the number of tokens in it.

    Returns:
        Words of the range coder, uint32.

    Raises:
        CheckpointError: the model gives no probabilities.
    """
    encoder = rows.Encoder()
    with _reading(model, streams) as reader:
        tokens_S = np.full(streams, start)
        for places in _steps(len(ids), streams):
            probs_SV = reader.probabilities_after(tokens_S)
            tokens_S = ids[places]
            encoder.encode(tokens_S, probs_SV[: len(places)])
            if tick is not None:
                tick(len(places))
    return encoder.words()


def decode_streams(loaded: LoadedModel, coded: container.Coded, *, tick: Tick | None = None) -> np.ndarray:
    """Decode the tokens (N,) of a file.

    Args:
        loaded: the model that it was encoded with.
        coded: the file.
        tick: called after each step with the number of tokens in it.

    Raises:
        DataError: it was written with other settings, or holds a token outside the vocabulary.
        CheckpointError: the model gives no probabilities.
    """
    header, vocab_size = coded.header, len(loaded.vocabulary)
    header.settings.refuse_others(settings_of(loaded))
    if header.start >= vocab_size:
        raise DataError("the file is damaged: it begins with a token outside the vocabulary")
    decoder = rows.Decoder(coded.words)
    # Grows with what was decoded: a header may ask for more than its code can hold.
    steps = array("q")
    with _reading(loaded.model, header.streams) as reader:
        tokens_S = np.full(header.streams, header.start)
        for places in _steps(header.num_tokens, header.streams):
            tokens_S = decoder.decode(reader.probabilities_after(tokens_S)[: len(places)])
            if tokens_S.max() >= vocab_size:
                raise DataError("the file is damaged: it holds a token outside the vocabulary")
            steps.frombytes(tokens_S.tobytes())
            if tick is not None:
                tick(len(places))
    ids = np.empty(header.num_tokens, np.int64)
    if header.num_tokens:
        ids[np.concatenate(list(_steps(header.num_tokens, header.streams)))] = np.frombuffer(steps, np.int64)
    return ids


def _steps(num_tokens: int, streams: int) -> Iterator[np.ndarray]:
    """Places in the text of the tokens of each step: one of every stream, and the last step of the longer ones."""
    length, longer = divmod(num_tokens, streams)
    sizes_S = np.full(streams, length)
    sizes_S[:longer] += 1
    starts_S = np.cumsum(sizes_S) - sizes_S
    for step in range(length + (longer > 0)):
        yield (starts_S if step < length else starts_S[:longer]) + step


class _Reader:
    """A model that reads one token of each stream after another."""

    def __init__(self, model: LanguageModel, streams: int) -> None:
        self.model, self.device, self.state = model, device_of(model), model.initial_state(streams)

    def probabilities_after(self, tokens_S: np.ndarray) -> np.ndarray:
        """Distributions (S, V) of the next token of each stream, float64."""
        tokens_TS = torch.from_numpy(tokens_S.astype(np.int64)).unsqueeze(0).to(self.device)
        h_TSH, self.state = self.model.features(tokens_TS, self.state)
        probs_SV: np.ndarray = self.model.log_probs(h_TSH[0]).double().exp().cpu().numpy()
        return probs_SV


@contextmanager
def _reading(model: LanguageModel, streams: int) -> Iterator[_Reader]:
    module = module_of(model)
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield _Reader(model, streams)
    except ValueError as error:
        raise CheckpointError(f"the model's probabilities cannot be coded: {' '.join(str(error).split())}") from None
    finally:
        module.train(was_training)


def _content(ids: np.ndarray) -> bytes:
    """Tokens as the bytes whose checksum the header holds."""
    return np.asarray(ids).astype("<u4").tobytes()
