"""Official objects translated to our parameters; torch's LSTM is the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from official_files import (
    Call,
    Global,
    Instance,
    Writer,
    criterion,
    language_model,
    lstm,
    lstm_weights,
    module,
    optimizer,
    qrnn,
)

import lm_models
from harness.checkpoints.awd_lstm_lm.allow_list import MalformedError
from harness.checkpoints.awd_lstm_lm.mapping import OfficialModel, extract
from harness.checkpoints.awd_lstm_lm.torch_file import open_torch_file
from harness.checkpoints.model import model_config

VOCAB, WIDTH, HIDDEN = 11, 6, 7
Weights = dict[str, np.ndarray]


def read(path: Path) -> tuple[OfficialModel, Weights]:
    with open_torch_file(path) as file:
        official = extract(file)
        return official, official.arrays(file)


def build(official: OfficialModel, arrays: Weights) -> Any:
    block = official.block
    model = lm_models.build(str(block["builder"]), model_config(block), vocab_size=official.vocab_size)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return model.eval()


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("how", [{"drop": 0.5}, {"drop": 0.5, "copy": True}, {"drop": None}])
def test_an_lstm_predicts_what_torch_does(tmp_path: Path, legacy: bool, how: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    writer = Writer(sources=legacy)
    weights = [lstm_weights(rng, WIDTH, HIDDEN), lstm_weights(rng, HIDDEN, WIDTH)]
    layers = [lstm(writer, each, **how) for each in weights]
    embedding, bias = rng.normal(size=(VOCAB, WIDTH)).astype(np.float32), rng.normal(size=VOCAB).astype(np.float32)
    root = [language_model(writer, layers, embedding, bias), criterion(writer, []), optimizer()]
    official, arrays = read(writer.write(tmp_path / "m.pt", root, legacy=legacy))
    ids = torch.from_numpy(rng.integers(0, VOCAB, size=(9, 3)))
    x = torch.from_numpy(embedding)[ids[:-1]]
    for each in weights:
        layer = torch.nn.LSTM(each["weight_ih"].shape[1], each["weight_hh"].shape[1])
        layer.load_state_dict({f"{name}_l0": torch.from_numpy(value) for name, value in each.items()})
        x, _ = layer(x)
    logits = x @ torch.from_numpy(embedding).T + torch.from_numpy(bias)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[1:].flatten(), reduction="none")
    model = build(official, arrays)
    actual = model(ids[:-1], ids[1:], model.initial_state(3)).nll_TB.flatten()
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    rates = {"embedding": 0.1, "input": 0.3, "hidden": 0.2, "output": 0.4, "weight": how["drop"] or 0.0}
    sizes = {"layers": 2, "hidden": HIDDEN, "embedding": WIDTH, "tie": True}
    assert official.block == {"builder": "awd-lstm", **sizes, "dropout": rates}


@pytest.mark.parametrize("tied", [True, False])
def test_a_decoder_is_tied_if_its_weights_are_the_embeddings(tmp_path: Path, tied: bool) -> None:
    rng, writer = np.random.default_rng(5), Writer()
    last = WIDTH if tied else HIDDEN
    layers = [lstm(writer, lstm_weights(rng, *sizes), drop=0.5) for sizes in ((WIDTH, HIDDEN), (HIDDEN, last))]
    embedding = rng.normal(size=(VOCAB, WIDTH)).astype(np.float32)
    decoder = embedding.copy() if tied else rng.normal(size=(VOCAB, HIDDEN)).astype(np.float32)
    model = language_model(writer, layers, embedding, np.zeros(VOCAB, np.float32), decoder)
    official, arrays = read(writer.zipped(tmp_path / "m.pt", [model, criterion(writer, []), optimizer()]))
    assert official.block["tie"] is tied
    if not tied:
        np.testing.assert_array_equal(build(official, arrays).softmax.weight.detach().numpy(), decoder)


def qrnn_model(writer: Writer, splits: list[int], **changes: Any) -> tuple[list[Any], Weights]:
    rng = np.random.default_rng(3)
    shapes = {"w0": (3 * HIDDEN, 2 * WIDTH), "b0": (3 * HIDDEN,), "w1": (3 * WIDTH, HIDDEN), "b1": (3 * WIDTH,)}
    shapes |= {"embedding": (VOCAB, WIDTH), "bias": (VOCAB,), "vectors": (len(splits), WIDTH), "tails": (len(splits),)}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    layers = [
        qrnn(writer, weights["w0"], weights["b0"], window=changes.pop("first", 2), **changes),
        qrnn(writer, weights["w1"], weights["b1"], window=changes.pop("second", 1)),
    ]
    tails = (weights["vectors"], weights["tails"]) if splits else None
    model = language_model(writer, layers, weights["embedding"], weights["bias"])
    return [model, criterion(writer, splits, tails), optimizer()], weights


def test_a_qrnn_with_splits_keeps_the_official_order_of_its_tails(tmp_path: Path) -> None:
    writer = Writer()
    root, weights = qrnn_model(writer, [4, 7])
    official, arrays = read(writer.legacy(tmp_path / "m.pt", root))
    assert official.block | {"cutoffs": [4, 7], "tail_order": "reversed", "first_window": 2} == official.block
    model = build(official, arrays)
    h = np.random.default_rng(4).normal(size=(5, WIDTH)).astype(np.float32)
    actual = model.log_probs(torch.from_numpy(h)).numpy()
    head = h @ np.concatenate([weights["embedding"][:4], weights["vectors"]]).T
    head += np.append(weights["bias"][:4], weights["tails"])
    head -= np.log(np.exp(head).sum(1, keepdims=True))
    expected = [head[:, :4]]
    for cluster, (first, last) in enumerate(((4, 7), (7, VOCAB)), 1):
        within = h @ weights["embedding"][first:last].T + weights["bias"][first:last]
        expected.append(head[:, [-cluster]] + within - np.log(np.exp(within).sum(1, keepdims=True)))
    np.testing.assert_allclose(actual, np.concatenate(expected, axis=1), rtol=1e-5, atol=1e-5)


def test_a_file_of_torch_in_2018_is_read(tmp_path: Path) -> None:
    """CUDA storages, tensors without flags, parameters made by calls, the function table of the C backend."""
    writer = Writer(Global("torch.cuda", "FloatStorage"), "_rebuild_tensor", sources=True)
    backend = Call(Global("torch.nn.backends.thnn", "_get_thnn_function_backend"), ())
    root, weights = qrnn_model(writer, [])
    root[0].state["_backend"] = backend
    root[0].state["hooks"] = Instance(Global("torch.backends.cudnn.rnn", "Unserializable"), "<unserializable>")
    official, arrays = read(writer.legacy(tmp_path / "m.pt", root))
    assert official.written_by == "torch before 1.2"
    np.testing.assert_array_equal(arrays["layers.1.linear.weight"], weights["w1"])


def test_half_precision_becomes_float32_and_double_stays(tmp_path: Path) -> None:
    for kind, dtype, expected in (("HalfStorage", np.float16, "float32"), ("DoubleStorage", np.float64, "float64")):
        writer = Writer(Global("torch", kind))
        root, _ = qrnn_model(writer, [])
        writer.arrays = {key: array.astype(dtype) for key, array in writer.arrays.items()}
        official, arrays = read(writer.legacy(tmp_path / "m.pt", root))
        assert {official.dtype, *(str(array.dtype) for array in arrays.values())} == {expected}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first": 3}, r"windows \[3, 1\]"),
        ({"second": 2}, r"windows \[2, 2\]"),
        ({"output_gate": False}, "has no output gate"),
        ({"save_prev_x": False}, "forgets its last input"),
        ({"zoneout": 0.5}, "different zoneouts"),
    ],
)
def test_layers_that_are_not_the_official_ones_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    writer = Writer()
    root, _ = qrnn_model(writer, [], **changes)
    with pytest.raises(MalformedError, match=message):
        read(writer.legacy(tmp_path / "m.pt", root))


def test_objects_that_are_no_checkpoint_are_refused(tmp_path: Path) -> None:
    writer = Writer()
    root, weights = qrnn_model(writer, [])
    model, loss, adam = root
    broken = criterion(writer, [])
    broken.state["splits"] = [0, "x"]
    gru = module(writer, "torch.nn.modules.rnn", "GRU", {})
    of_gru, empty = (language_model(writer, layers, weights["embedding"], weights["bias"]) for layers in ([gru], []))
    for value, message in (
        ({}, r"the list \[model, criterion, optimizer\]"),
        ([model, loss], r"the list \[model, criterion, optimizer\]"),
        ([loss, model, adam], r"the model is a splitcross\.SplitCrossEntropyLoss"),
        ([model, None, adam], "the criterion is not an object"),
        ([model, broken, adam], "no list of splits"),
        ([Instance(Global("model", "RNNModel"), {"a": 1}), loss, adam], "the model has no encoder"),
        ([of_gru, loss, adam], r"layers are torch\.nn\.modules\.rnn\.GRU"),
        ([empty, loss, adam], "no recurrent layers"),
        ([model, criterion(writer, [4]), adam], "the criterion has no tensor tail_vectors"),
    ):
        with pytest.raises(MalformedError, match=message):
            read(writer.zipped(tmp_path / "m.pt", value))
