"""The coder: the text comes back from a file of the length that closed forms give, or a refusal says why."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from leaky_model import Leaky, numpy_states_and_probs

from harness.core.errors import CheckpointError, DataError
from harness.core.interfaces import LoadedModel
from harness.evaluation.coding import coder, container
from harness.evaluation.coding.settings import settings_of
from lm_models.markov import source
from lm_models.markov.config import Config
from lm_models.markov.model import build

pytest.importorskip("constriction", reason="the extra audit is not installed")

ORDER, SYMBOLS, CONCENTRATION = 2, 16, 0.2


def loaded_of(model: torch.nn.Module, vocab_size: int, dtype: str = "float32") -> LoadedModel:
    vocabulary = [str(number) for number in range(vocab_size)]
    return LoadedModel(Path("m"), model, {}, dtype, dtype, vocabulary, "word", "0" * 64, "cpu")  # type: ignore[arg-type]


@pytest.fixture
def small() -> tuple[LoadedModel, np.ndarray]:
    return loaded_of(Leaky(7).eval(), 7), np.random.default_rng(0).integers(7, size=300)


@pytest.mark.parametrize(
    ("num_tokens", "sampling_error"), [(3000, 0.05), pytest.param(20_000, 0.02, marks=pytest.mark.slow)]
)
def test_the_oracle_of_a_source_takes_the_entropy(num_tokens: int, sampling_error: float) -> None:
    ids = source.sample(table := source.table(ORDER, SYMBOLS, CONCENTRATION, 0), ORDER, SYMBOLS, num_tokens, 1)
    config = Config(order=ORDER, symbols=SYMBOLS, concentration=CONCENTRATION, seed=0)
    oracle = loaded_of(build(config, vocab_size=SYMBOLS), SYMBOLS, "float64")
    file = coder.encode(oracle, ids)
    assert (coder.decode(oracle, file) == ids).all()
    bits = coder.payload_bits(file)
    contexts = ids[:-2].astype(int) * SYMBOLS + ids[1:-1]
    exact = -np.log2(table[contexts, ids[2:]]).sum()
    # The second token has a shorter context: it costs at most a few bits more than nothing.
    assert exact * (1 - 1e-3) <= bits <= exact * (1 + 1e-3) + 64 + 16
    assert bits / (len(ids) - 1) == pytest.approx(source.entropy_rate_bits(table, ORDER, SYMBOLS), rel=sampling_error)


@pytest.mark.parametrize("vocab_size", [7, 1024, 1025, 3000])
def test_a_text_comes_back_from_the_bits_of_its_losses(vocab_size: int) -> None:
    model = Leaky(vocab_size).double().eval()
    ids = np.random.default_rng(1).integers(vocab_size, size=400)
    ids[5] = vocab_size - 1
    file = coder.encode(loaded_of(model, vocab_size), ids)
    assert (coder.decode(loaded_of(model, vocab_size), file) == ids).all()
    _, probs = numpy_states_and_probs(model, ids)
    expected = -np.log2(probs[np.arange(399), ids[1:]]).sum()
    assert abs(coder.payload_bits(file) - expected) <= 1e-3 * expected + 64


@pytest.mark.parametrize("vocab_size", [7, 3000])
def test_a_token_of_almost_no_probability_comes_back(vocab_size: int) -> None:
    model = Leaky(vocab_size).double().eval()
    with torch.no_grad():
        model.out.bias[vocab_size - 2 :] = -1000.0
    loaded, ids = loaded_of(model, vocab_size), np.array([0, vocab_size - 1, 1, vocab_size - 2])
    assert (coder.decode(loaded, coder.encode(loaded, ids)) == ids).all()


@pytest.mark.parametrize("vocab_size", [7, 1025])
@pytest.mark.parametrize("streams", [1, 2, 7, 64, 99, 100])
def test_streams_come_back_in_the_order_of_the_text(vocab_size: int, streams: int) -> None:
    loaded = loaded_of(Leaky(vocab_size).eval(), vocab_size)
    ids = np.random.default_rng(2).integers(vocab_size, size=100)
    words = coder.encode_streams(loaded.model, ids, start=3, streams=streams)
    settings = settings_of(loaded)
    file = container.pack(settings, ids.tobytes(), words, b"", num_tokens=100, streams=streams, start=3)
    assert (coder.decode_streams(loaded, container.unpack(file)) == ids).all()


def test_a_stream_costs_what_its_own_text_costs() -> None:
    """The bits of two streams are those of their halves, each after the first token and the zero state."""
    model = Leaky(7).double().eval()
    ids = np.random.default_rng(3).integers(7, size=4000)
    words = coder.encode_streams(model, ids, start=0, streams=2)
    expected = 0.0
    for half in (ids[:2000], ids[2000:]):
        read = np.concatenate([[0], half])
        _, probs = numpy_states_and_probs(model, read)
        expected -= np.log2(probs[np.arange(2000), half]).sum()
    assert abs(32 * len(words) - expected) <= 1e-3 * expected + 64


@pytest.mark.parametrize("name", ["model", "dtype", "kernel", "device", "cpu", "threads", "torch", "constriction"])
def test_other_settings_are_refused(name: str, small: tuple[LoadedModel, np.ndarray]) -> None:
    loaded, ids = small
    head, line, rest = coder.encode(loaded, ids)[:-32].split(b"\n", 2)
    header = json.loads(line)
    other: object = 97 if name == "threads" else "another"
    header["settings"][name] = other
    body = head + b"\n" + json.dumps(header).encode() + b"\n" + rest
    with pytest.raises(DataError, match=f"OMP_NUM_THREADS={other}" if name == "threads" else f"{name}.* 'another'"):
        coder.decode(loaded, body + hashlib.sha256(body).digest())


def test_weights_that_differ_from_the_header_give_no_wrong_text(small: tuple[LoadedModel, np.ndarray]) -> None:
    loaded, ids = small
    torch.manual_seed(9)
    with pytest.raises(DataError, match="differs"):
        coder.decode(replace(loaded, model=Leaky(7).eval()), coder.encode(loaded, ids))


def test_probabilities_that_are_no_numbers_are_one_line(small: tuple[LoadedModel, np.ndarray]) -> None:
    loaded, ids = small
    with torch.no_grad():
        loaded.model.out.bias[0] = torch.nan  # type: ignore[attr-defined]
    with pytest.raises(CheckpointError, match="cannot be coded") as error:
        coder.encode(loaded, ids)
    assert "\n" not in str(error.value)
