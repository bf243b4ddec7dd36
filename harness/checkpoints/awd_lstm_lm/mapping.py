"""Translate the objects of an official checkpoint to the config and parameter names of this harness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.checkpoints.awd_lstm_lm.allow_list import MalformedError, Pairs, Record, Tensor, shown
from harness.checkpoints.awd_lstm_lm.torch_file import TorchFile, check_view

if TYPE_CHECKING:
    from pydantic import JsonValue

# SplitCrossEntropyLoss puts this after the last cutoff, in place of the vocabulary's size.
END_OF_SPLITS = 100_000_000

# A larger number in the file is no setting, and an infinity would not be JSON.
MAX_SETTING = 1e9

# main.py of awd-lstm-lm: from this size of vocabulary on, the softmax has splits.
MAX_UNSPLIT_WORDS = 75_000

FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True, slots=True)
class OfficialModel:
    """The model in an official checkpoint, in the terms of this harness.

    block: of a suite, without defaults. tensors: parameters by our names, still in the file. dtype: to store them in.
    written_by: range of torch versions. is_bare: the file holds the model without its criterion.
    """

    block: dict[str, JsonValue]
    tensors: dict[str, Tensor]
    vocab_size: int
    dtype: str
    written_by: str
    is_bare: bool

    def arrays(self, file: TorchFile) -> dict[str, np.ndarray]:
        """Read the parameters from the file, in one dtype. Raises MalformedError if they are not there."""
        return {name: file.array(tensor).astype(self.dtype, copy=False) for name, tensor in self.tensors.items()}


def extract(file: TorchFile) -> OfficialModel:
    """Find the config and the parameters. Numbers are read only to tell whether the softmax is tied.

    Raises MalformedError for objects that are not those of an official checkpoint.
    """
    root = file.root
    is_bare = isinstance(root, Record)
    if not is_bare and (not isinstance(root, list) or len(root) != 3):
        raise MalformedError("it holds neither the list [model, criterion, optimizer] nor a model alone")
    model = _Module.of(root if is_bare else root[0], "the model", "model.RNNModel")
    encoder, decoder = model.child("encoder").tensor("weight"), model.child("decoder")
    layers = model.child("rnns").children()
    if not layers:
        raise MalformedError("its model has no recurrent layers")
    classes = {layer.unwrapped().cls for layer in layers}
    if classes == {"torch.nn.modules.rnn.LSTM"}:
        read_layers = _read_lstm
    elif classes == {"torchqrnn.qrnn.QRNNLayer"}:
        read_layers = _read_qrnn
    else:
        raise MalformedError(f"its layers are {', '.join(sorted(classes))}; LSTM and QRNN are read")
    tensors: dict[str, Tensor] = {"embedding": encoder}
    block, weight_drops = read_layers(layers, tensors)
    tensors["softmax.bias"] = decoder.tensor("bias")
    tied = _same(file, decoder.tensor("weight"), encoder)
    if not tied:
        tensors["softmax.weight"] = decoder.tensor("weight")
    block |= _read_sizes(model, len(layers), tensors, tied=tied)
    block["dropout"] = _read_dropout(model, weight_drops)
    if not is_bare:
        block |= _read_splits(root[1], tensors, tied=tied)
    elif encoder.shape[0] > MAX_UNSPLIT_WORDS:
        raise MalformedError("it holds a model alone, without the criterion that such a vocabulary was trained with")
    for name, tensor in tensors.items():
        if tensor.storage.dtype not in FLOATS:
            raise MalformedError(f"{shown(name)} holds {tensor.storage.dtype}; {', '.join(FLOATS)} are read")
        check_view(tensor)
    dtype = "float64" if encoder.storage.dtype == "float64" else "float32"
    return OfficialModel(block, tensors, encoder.shape[0], dtype, _written_by(model), is_bare)


@dataclass(frozen=True, slots=True)
class _Module:
    """An nn.Module that was never made. cls: path of its class. location: in the model, for messages."""

    cls: str
    attributes: dict[str, Any]
    location: str

    @classmethod
    def of(cls, value: Any, location: str, expected: str | None = None) -> _Module:
        if not isinstance(value, Record) or not isinstance(value.state, Pairs):
            raise MalformedError(f"{location} is not an object with a state")
        if expected is not None and value.path != expected:
            raise MalformedError(f"{location} is a {value.path}, not a {expected}")
        return cls(value.path, value.state.by_text(), location)

    def part(self, name: str) -> dict[str, Any]:
        part = self.attributes.get(name)
        return part.by_text() if isinstance(part, Pairs) else {}

    def child(self, name: str) -> _Module:
        modules = self.part("_modules")
        if name not in modules:
            raise MalformedError(f"{self.location} has no {name}")
        return _Module.of(modules[name], f"{self.location}.{name}")

    def children(self) -> list[_Module]:
        """The modules of a ModuleList, which are numbered from 0."""
        modules = self.part("_modules")
        if list(modules) != [str(number) for number in range(len(modules))]:
            raise MalformedError(f"{self.location} is not numbered from 0")
        return [self.child(name) for name in modules]

    def unwrapped(self) -> _Module:
        """The module inside a WeightDrop, or this one."""
        return self.child("module") if self.cls == "weight_drop.WeightDrop" else self

    def weight_drop(self) -> float:
        """The rate of a WeightDrop; 0 for any other module."""
        return (self.number("dropout") or 0.0) if self.cls == "weight_drop.WeightDrop" else 0.0

    def tensor(self, name: str) -> Tensor:
        # WeightDrop keeps the weight under NAME_raw; NAME may be a copy with the last window's dropout.
        for candidate in (f"{name}_raw", name):
            for value in (self.part("_parameters").get(candidate), self.attributes.get(candidate)):
                if isinstance(value, Tensor):
                    return value
        raise MalformedError(f"{self.location} has no tensor {name}")

    def number(self, name: str) -> float | None:
        """An attribute, if it is a number that a setting can have."""
        value = self.attributes.get(name)
        is_setting = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_SETTING
        return value if is_setting else None


def _read_lstm(layers: list[_Module], tensors: dict[str, Tensor]) -> tuple[dict[str, JsonValue], list[float]]:
    """Add the layers' tensors; return the builder's settings and the weight drop of each layer."""
    for number, layer in enumerate(layers):
        lstm = layer.unwrapped()
        if lstm.number("num_layers") not in (None, 1) or lstm.attributes.get("bidirectional"):
            raise MalformedError(f"{lstm.location} is not a single layer in one direction")
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            tensors[f"layers.{number}.{name}"] = lstm.tensor(f"{name}_l0")
    return {"builder": "awd-lstm"}, [layer.weight_drop() for layer in layers]


def _read_qrnn(layers: list[_Module], tensors: dict[str, Tensor]) -> tuple[dict[str, JsonValue], list[float]]:
    """Add the layers' tensors; return the builder's settings and the weight drop of each layer."""
    windows = [layer.number("window") for layer in layers]
    zoneouts = [layer.number("zoneout") or 0.0 for layer in layers]
    for number, layer in enumerate(layers):
        if layer.attributes.get("output_gate") is not True:
            raise MalformedError(f"{layer.location} has no output gate")
        if windows[0] == 2 and layer.attributes.get("save_prev_x") is False:
            raise MalformedError(f"{layer.location} forgets its last input between windows, which is not supported")
        for name in ("weight", "bias"):
            tensors[f"layers.{number}.linear.{name}"] = layer.child("linear").unwrapped().tensor(name)
    if windows[0] not in (1, 2) or any(window != 1 for window in windows[1:]):
        raise MalformedError(f"its layers have windows {windows}; 1 or 2 and then 1 are read")
    if len(set(zoneouts)) > 1:
        raise MalformedError("its layers have different zoneouts, which is not supported")
    block: dict[str, JsonValue] = {"builder": "qrnn", "first_window": windows[0], "zoneout": float(zoneouts[0])}
    return block, [layer.child("linear").weight_drop() for layer in layers]


def _read_sizes(model: _Module, num_layers: int, tensors: dict[str, Tensor], *, tied: bool) -> dict[str, JsonValue]:
    """Layer sizes, as the tensors have them."""
    first = tensors.get("layers.0.weight_hh", tensors.get("layers.0.linear.bias"))
    embedding = tensors["embedding"].shape
    if first is None or len(embedding) != 2 or not first.shape:
        raise MalformedError("its tensors do not have the shapes of a language model's")
    hidden = first.shape[1] if len(first.shape) == 2 else first.shape[0] // 3
    if num_layers == 1 and tied:
        # A single tied layer is as wide as the embedding; only the model says which `hidden` it was made with.
        hidden = int(model.number("nhid") or hidden)
    return {"layers": num_layers, "hidden": hidden, "embedding": embedding[1], "tie": tied}


def _read_dropout(model: _Module, weight_drops: list[float]) -> dict[str, JsonValue]:
    if len(set(weight_drops)) > 1:
        raise MalformedError("its layers have different weight drops, which is not supported")
    rates = {"embedding": model.number("dropoute") or 0.0}
    for name, attribute, module in (
        ("input", "dropouti", "idrop"),
        ("hidden", "dropouth", "hdrop"),
        ("output", "dropout", "drop"),
    ):
        rate = model.number(attribute)
        if rate is None and module in model.part("_modules"):
            rate = model.child(module).number("p")
        rates[name] = rate or 0.0
    return {name: float(rate) for name, rate in {**rates, "weight": weight_drops[0]}.items()}


def _read_splits(criterion: Any, tensors: dict[str, Tensor], *, tied: bool) -> dict[str, JsonValue]:
    """Add the tensors of an adaptive softmax and return its cutoffs; nothing for a full softmax."""
    if isinstance(criterion, Record) and criterion.path == "torch.nn.modules.loss.CrossEntropyLoss":
        return {}
    loss = _Module.of(criterion, "the criterion", "splitcross.SplitCrossEntropyLoss")
    splits = loss.attributes.get("splits")
    if not isinstance(splits, list) or not all(type(split) is int for split in splits):
        raise MalformedError("the criterion has no list of splits")
    if len(splits) < 2 or splits[0] != 0 or splits[-1] != END_OF_SPLITS:
        raise MalformedError(f"the criterion's splits do not run from 0 to {END_OF_SPLITS:,}")
    cutoffs = splits[1:-1]
    if not cutoffs:
        return {}
    if not tied:
        raise MalformedError("its adaptive softmax is not tied to its embedding, which is not supported")
    for name in ("tail_vectors", "tail_bias"):
        tensors[f"softmax.{name}"] = loss.tensor(name)
    return {"cutoffs": cutoffs, "tail_order": "reversed"}


def _same(file: TorchFile, one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers. They share a storage unless something copied one before saving."""
    if (one.storage, one.offset, one.shape) == (other.storage, other.offset, other.shape):
        return True
    return one.shape == other.shape and np.array_equal(file.array(one), file.array(other))


def _written_by(model: _Module) -> str:
    """The torch versions that write modules with these attributes."""
    if "_backend" in model.attributes:
        return "torch before 1.2"
    return "torch 1.6 or later" if "_non_persistent_buffers_set" in model.attributes else "torch 1.2 to 1.5"
