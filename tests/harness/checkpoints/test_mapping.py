"""Objects of every kind the official code pickles, into our parameters; torch's own LSTM is the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from official_objects import criterion, language_model, lstm, lstm_weights, module, optimizer, qrnn
from pickle_assembler import Call, Global, Instance, Writer

import models
from harness.checkpoints.awd_lstm_lm.container import opened
from harness.checkpoints.awd_lstm_lm.mapping import Found, extract
from harness.checkpoints.awd_lstm_lm.values import MalformedError
from harness.checkpoints.model import model_config

VOCAB, WIDTH, HIDDEN = 11, 6, 7


def found_in(path: Path) -> Found:
    return read(path)[0]


def read(path: Path) -> tuple[Found, dict[str, np.ndarray]]:
    with opened(path) as container:
        found = extract(container)
        return found, found.arrays(container)


def built(found: Found, arrays: dict[str, np.ndarray]) -> Any:
    model = models.build(found.model["builder"], model_config(found.model), vocab_size=found.vocab_size)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return model.eval()


def lstm_layers(writer: Writer, rng: np.random.Generator, **how: Any) -> tuple[list[Instance], list[dict[str, Any]]]:
    weights = [lstm_weights(rng, WIDTH, HIDDEN), lstm_weights(rng, HIDDEN, WIDTH)]
    return [lstm(writer, each, **how) for each in weights], weights


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("how", [{"drop": 0.5}, {"drop": 0.5, "copy": True}, {"drop": None}])
def test_an_lstm_predicts_what_torchs_own_layers_predict(tmp_path: Path, legacy: bool, how: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    writer = Writer(sources=legacy)
    layers, weights = lstm_layers(writer, rng, **how)
    embedding, bias = rng.normal(size=(VOCAB, WIDTH)).astype(np.float32), rng.normal(size=VOCAB).astype(np.float32)
    root = [language_model(writer, layers, embedding, bias), criterion(writer, []), optimizer()]
    found, arrays = read((writer.legacy if legacy else writer.zipped)(tmp_path / "m.pt", root))
    ids = torch.from_numpy(rng.integers(0, VOCAB, size=(9, 3)))
    x = torch.from_numpy(embedding)[ids[:-1]]
    for each in weights:
        layer = torch.nn.LSTM(each["weight_ih"].shape[1], each["weight_hh"].shape[1])
        layer.load_state_dict({f"{name}_l0": torch.from_numpy(value) for name, value in each.items()})
        x, _ = layer(x)
    logits = x @ torch.from_numpy(embedding).T + torch.from_numpy(bias)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[1:].flatten(), reduction="none")
    model = built(found, arrays)
    ours = model(ids[:-1], ids[1:], model.initial_state(3)).nll_TB.flatten()
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    rates = {"embedding": 0.1, "input": 0.3, "hidden": 0.2, "output": 0.4, "weight": how["drop"] or 0.0}
    sizes = {"layers": 2, "hidden": HIDDEN, "embedding": WIDTH, "tie": True}
    assert found.model == {"builder": "awd-lstm", **sizes, "dropout": rates}


def test_a_decoder_with_a_copy_of_the_embedding_is_tied(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    writer = Writer()
    layers, _ = lstm_layers(writer, rng, drop=0.5)
    embedding = rng.normal(size=(VOCAB, WIDTH)).astype(np.float32)
    model = language_model(writer, layers, embedding, np.zeros(VOCAB, np.float32), embedding.copy())
    found = found_in(writer.zipped(tmp_path / "m.pt", [model, criterion(writer, []), optimizer()]))
    assert found.model["tie"] is True


def test_a_decoder_of_its_own_makes_an_untied_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    writer = Writer()
    weights = [lstm_weights(rng, WIDTH, HIDDEN), lstm_weights(rng, HIDDEN, HIDDEN)]
    embedding = rng.normal(size=(VOCAB, WIDTH)).astype(np.float32)
    decoder = rng.normal(size=(VOCAB, HIDDEN)).astype(np.float32)
    model = language_model(
        writer, [lstm(writer, each, drop=0.5) for each in weights], embedding, np.zeros(VOCAB, np.float32), decoder
    )
    found, arrays = read(writer.zipped(tmp_path / "m.pt", [model, criterion(writer, []), optimizer()]))
    assert found.model["tie"] is False
    np.testing.assert_array_equal(built(found, arrays).softmax.weight.detach().numpy(), decoder)


def qrnn_model(writer: Writer, splits: list[int], **changes: Any) -> tuple[list[Any], dict[str, np.ndarray]]:
    rng = np.random.default_rng(3)
    shapes = {"w0": (3 * HIDDEN, 2 * WIDTH), "b0": (3 * HIDDEN,), "w1": (3 * WIDTH, HIDDEN), "b1": (3 * WIDTH,)}
    shapes |= {"embedding": (VOCAB, WIDTH), "bias": (VOCAB,), "vectors": (len(splits), WIDTH), "tails": (len(splits),)}
    own = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    layers = [
        qrnn(writer, own["w0"], own["b0"], window=changes.pop("first", 2), **changes),
        qrnn(writer, own["w1"], own["b1"], window=changes.pop("second", 1)),
    ]
    tails = (own["vectors"], own["tails"]) if splits else None
    model = language_model(writer, layers, own["embedding"], own["bias"])
    return [model, criterion(writer, splits, tails), optimizer()], own


def test_a_qrnn_with_splits_brings_its_tails_in_the_official_order(tmp_path: Path) -> None:
    writer = Writer()
    root, own = qrnn_model(writer, [4, 7])
    found, arrays = read(writer.legacy(tmp_path / "m.pt", root))
    assert (found.model["cutoffs"], found.model["tail_order"], found.model["first_window"]) == ([4, 7], "reversed", 2)
    model = built(found, arrays)
    h = np.random.default_rng(4).normal(size=(5, WIDTH)).astype(np.float32)
    ours = model.log_probs(torch.from_numpy(h)).numpy()
    head = h @ np.concatenate([own["embedding"][:4], own["vectors"]]).T + np.append(own["bias"][:4], own["tails"])
    head -= np.log(np.exp(head).sum(1, keepdims=True))
    expected = [head[:, :4]]
    for cluster, (first, last) in enumerate(((4, 7), (7, VOCAB)), 1):
        within = h @ own["embedding"][first:last].T + own["bias"][first:last]
        expected.append(head[:, [-cluster]] + within - np.log(np.exp(within).sum(1, keepdims=True)))
    np.testing.assert_allclose(ours, np.concatenate(expected, axis=1), rtol=1e-5, atol=1e-5)


def test_a_file_of_2018s_torch_is_read_whole(tmp_path: Path) -> None:
    """CUDA storages, tensors without flags, parameters by their class, the function table of the C backend."""
    writer = Writer(Global("torch.cuda", "FloatStorage"), "_rebuild_tensor", sources=True)
    backend = Call(Global("torch.nn.backends.thnn", "_get_thnn_function_backend"), ())
    root, own = qrnn_model(writer, [])
    root[0].state["_backend"] = backend
    root[0].state["hooks"] = Instance(Global("torch.backends.cudnn.rnn", "Unserializable"), "<unserializable>")
    found, arrays = read(writer.legacy(tmp_path / "m.pt", root))
    assert found.written_by == "torch before 1.2"
    np.testing.assert_array_equal(arrays["layers.1.linear.weight"], own["w1"])


def test_half_precision_becomes_float32_and_double_stays(tmp_path: Path) -> None:
    for kind, dtype, expected in (("HalfStorage", np.float16, "float32"), ("DoubleStorage", np.float64, "float64")):
        writer = Writer(Global("torch", kind))
        root, _ = qrnn_model(writer, [])
        writer.arrays = {key: array.astype(dtype) for key, array in writer.arrays.items()}
        found, arrays = read(writer.legacy(tmp_path / "m.pt", root))
        assert {found.dtype, *(str(array.dtype) for array in arrays.values())} == {expected}


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
        found_in(writer.legacy(tmp_path / "m.pt", root))


def test_objects_that_are_no_checkpoint_are_refused(tmp_path: Path) -> None:
    writer = Writer()
    root, own = qrnn_model(writer, [])
    gru = module(writer, "torch.nn.modules.rnn", "GRU", {})
    broken = criterion(writer, [])
    broken.state["splits"] = [0, "x"]
    for value, message in (
        ({}, r"the list \[model, criterion, optimizer\]"),
        (root[:2], r"the list \[model, criterion, optimizer\]"),
        ([root[1], root[0], root[2]], "the model is a splitcross.SplitCrossEntropyLoss"),
        ([root[0], None, root[2]], "the criterion is not an object"),
        ([root[0], broken, root[2]], "no list of splits"),
        ([Instance(Global("model", "RNNModel"), {"a": 1}), *root[1:]], "the model has no encoder"),
        (
            [language_model(writer, [gru], own["embedding"], own["bias"]), *root[1:]],
            "layers are torch.nn.modules.rnn.GRU",
        ),
        ([language_model(writer, [], own["embedding"], own["bias"]), *root[1:]], "no recurrent layers"),
        ([root[0], criterion(writer, [4]), root[2]], "the criterion has no tensor tail_vectors"),
    ):
        with pytest.raises(MalformedError, match=message):
            found_in(writer.zipped(tmp_path / "m.pt", value))
