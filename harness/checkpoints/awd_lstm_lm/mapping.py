"""From the objects of an official checkpoint to this harness's config and parameter names.

Letters: V vocabulary, E embedding, K tails.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.checkpoints.awd_lstm_lm.container import Container, check_view
from harness.checkpoints.awd_lstm_lm.names import STORAGES
from harness.checkpoints.awd_lstm_lm.values import MalformedError, Mapping, Record, Tensor, shown

END_OF_SPLITS = 100_000_000
"""What SplitCrossEntropyLoss puts behind the last cutoff, in place of the vocabulary's size."""

MAX_SETTING = 1e9

FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True, slots=True)
class Found:
    """What a checkpoint holds. model: a suite's block without its defaults; written_by: which torch, as far as told.

    tensors: the parameters by our names, whose numbers are still in the file and lie there whole.
    """

    model: dict[str, Any]
    tensors: dict[str, Tensor]
    vocab_size: int
    dtype: str
    written_by: str

    def arrays(self, container: Container) -> dict[str, np.ndarray]:
        """The parameters' numbers in one dtype. Raises MalformedError where they cannot be read."""
        return {name: container.array(each).astype(self.dtype, copy=False) for name, each in self.tensors.items()}


def extract(container: Container) -> Found:
    """Config and parameters; numbers are read only where it takes them to tell whether the softmax is tied.

    Raises MalformedError for objects that are not those of an official checkpoint.
    """
    root = container.root
    if not isinstance(root, list) or len(root) != 3:
        raise MalformedError("it does not hold the list [model, criterion, optimizer]")
    model = _Object.of(root[0], "the model", "model.RNNModel")
    encoder = model.child("encoder").tensor("weight")
    decoder = model.child("decoder")
    layers = model.child("rnns").children()
    tensors: dict[str, Tensor] = {"embedding": encoder}
    if not layers:
        raise MalformedError("its model has no recurrent layers")
    kinds = {layer.unwrapped().cls for layer in layers}
    if kinds == {"torch.nn.modules.rnn.LSTM"}:
        block, weight_drops = _lstm(layers, tensors)
    elif kinds == {"torchqrnn.qrnn.QRNNLayer"}:
        block, weight_drops = _qrnn(layers, tensors)
    else:
        raise MalformedError(f"its layers are {', '.join(sorted(kinds))}; LSTM and QRNN are read")
    tensors["softmax.bias"] = decoder.tensor("bias")
    tied = _same(container, decoder.tensor("weight"), encoder)
    if not tied:
        tensors["softmax.weight"] = decoder.tensor("weight")
    block |= _sizes(model, layers, tensors, tied=tied)
    block["dropout"] = _dropout(model, weight_drops)
    block |= _splits(root[1], tensors, tied=tied)
    for name, tensor in tensors.items():
        _check_floats(name, tensor)
    dtype = "float64" if STORAGES[encoder.storage.kind] == "float64" else "float32"
    return Found(block, tensors, encoder.sizes[0], dtype, _written_by(model))


@dataclass(frozen=True, slots=True)
class _Object:
    """An nn.Module that was never made: its class, what its state says, and where it stands in the model."""

    cls: str
    attributes: dict[str, Any]
    where: str

    @classmethod
    def of(cls, value: Any, where: str, *classes: str) -> _Object:
        if not isinstance(value, Record) or not isinstance(value.state, Mapping):
            raise MalformedError(f"{where} is not an object with a state")
        if classes and value.name.full not in classes:
            raise MalformedError(f"{where} is a {value.name.full}, not a {classes[0]}")
        return cls(value.name.full, value.state.by_text(), where)

    def part(self, name: str) -> dict[str, Any]:
        found = self.attributes.get(name)
        return found.by_text() if isinstance(found, Mapping) else {}

    def child(self, name: str) -> _Object:
        modules = self.part("_modules")
        if name not in modules:
            raise MalformedError(f"{self.where} has no {name}")
        return _Object.of(modules[name], f"{self.where}.{name}")

    def children(self) -> list[_Object]:
        """The modules of a ModuleList, which are numbered from 0."""
        modules = self.part("_modules")
        if list(modules) != [str(number) for number in range(len(modules))]:
            raise MalformedError(f"{self.where} is not numbered from 0")
        return [self.child(name) for name in modules]

    def unwrapped(self) -> _Object:
        """The module inside a WeightDrop, or this one."""
        return self.child("module") if self.cls == "weight_drop.WeightDrop" else self

    def tensor(self, name: str) -> Tensor:
        """A weight: what WeightDrop left under NAME_raw, for NAME may then be a copy of the last window's."""
        for candidate in (f"{name}_raw", name):
            for found in (self.part("_parameters").get(candidate), self.attributes.get(candidate)):
                if isinstance(found, Tensor):
                    return found
        raise MalformedError(f"{self.where} has no tensor {name}")

    def number(self, *names: str) -> float | None:
        """The first of these attributes that is a number of a size that a setting can have."""
        values = (self.attributes.get(name) for name in names)
        numbers = (value for value in values if isinstance(value, int | float) and not isinstance(value, bool))
        return next((value for value in numbers if abs(value) < MAX_SETTING), None)


def _lstm(layers: list[_Object], tensors: dict[str, Tensor]) -> tuple[dict[str, Any], list[float]]:
    drops = []
    for number, layer in enumerate(layers):
        drops.append((layer.number("dropout") or 0.0) if layer.cls == "weight_drop.WeightDrop" else 0.0)
        lstm = layer.unwrapped()
        if lstm.number("num_layers") not in (None, 1) or lstm.attributes.get("bidirectional"):
            raise MalformedError(f"{lstm.where} is not a single layer in one direction")
        for ours in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            tensors[f"layers.{number}.{ours}"] = lstm.tensor(f"{ours}_l0")
    return {"builder": "awd-lstm"}, drops


def _qrnn(layers: list[_Object], tensors: dict[str, Tensor]) -> tuple[dict[str, Any], list[float]]:
    drops, zoneouts, windows = [], [], []
    for number, layer in enumerate(layers):
        linear = layer.child("linear")
        drops.append((linear.number("dropout") or 0.0) if linear.cls == "weight_drop.WeightDrop" else 0.0)
        zoneouts.append(layer.number("zoneout") or 0.0)
        windows.append(layer.number("window"))
        if layer.attributes.get("output_gate") is not True:
            raise MalformedError(f"{layer.where} has no output gate")
        if windows[0] == 2 and layer.attributes.get("save_prev_x") is False:
            raise MalformedError(f"{layer.where} forgets its last input between windows, which is not supported")
        for ours in ("weight", "bias"):
            tensors[f"layers.{number}.linear.{ours}"] = linear.unwrapped().tensor(ours)
    if windows[0] not in (1, 2) or any(window != 1 for window in windows[1:]):
        raise MalformedError(f"its layers have windows {windows}; 1 or 2 and then 1 are read")
    if len(set(zoneouts)) > 1:
        raise MalformedError("its layers have different zoneouts, which is not supported")
    return {"builder": "qrnn", "first_window": windows[0], "zoneout": float(zoneouts[0])}, drops


def _sizes(model: _Object, layers: list[_Object], tensors: dict[str, Tensor], *, tied: bool) -> dict[str, Any]:
    """Sizes as the tensors have them; `hidden`, which a single tied layer does not show, as the model says."""
    first = tensors.get("layers.0.weight_hh", tensors.get("layers.0.linear.bias"))
    embedding = tensors["embedding"].sizes
    if first is None or len(embedding) != 2 or not first.sizes:
        raise MalformedError("its tensors do not have the shapes of a language model's")
    width = first.sizes[1] if len(first.sizes) == 2 else first.sizes[0] // 3
    if len(layers) == 1 and tied:
        width = int(model.number("nhid") or width)
    return {"layers": len(layers), "hidden": width, "embedding": embedding[1], "tie": tied}


def _dropout(model: _Object, weight_drops: list[float]) -> dict[str, float]:
    if len(set(weight_drops)) > 1:
        raise MalformedError("its layers have different weight drops, which is not supported")
    rates = {"embedding": model.number("dropoute") or 0.0}
    for ours, theirs, module in (
        ("input", "dropouti", "idrop"),
        ("hidden", "dropouth", "hdrop"),
        ("output", "dropout", "drop"),
    ):
        rate = model.number(theirs)
        if rate is None and module in model.part("_modules"):
            rate = model.child(module).number("p")
        rates[ours] = rate or 0.0
    return {name: float(rate) for name, rate in {**rates, "weight": weight_drops[0]}.items()}


def _splits(criterion: Any, tensors: dict[str, Tensor], *, tied: bool) -> dict[str, Any]:
    """Cutoffs and tails of the criterion, where it has any."""
    if isinstance(criterion, Record) and criterion.name.full == "torch.nn.modules.loss.CrossEntropyLoss":
        return {}
    found = _Object.of(criterion, "the criterion", "splitcross.SplitCrossEntropyLoss")
    splits = found.attributes.get("splits")
    if not isinstance(splits, list) or not all(type(split) is int for split in splits):
        raise MalformedError("the criterion has no list of splits")
    if len(splits) < 2 or splits[0] != 0 or splits[-1] != END_OF_SPLITS:
        raise MalformedError(f"the criterion's splits do not run from 0 to {END_OF_SPLITS:,}")
    cutoffs = splits[1:-1]
    if not cutoffs:
        return {}
    if not tied:
        raise MalformedError("its adaptive softmax is not tied to its embedding, which is not supported")
    for ours in ("tail_vectors", "tail_bias"):
        tensors[f"softmax.{ours}"] = found.tensor(ours)
    return {"cutoffs": cutoffs, "tail_order": "reversed"}


def _same(container: Container, one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers; they share a storage where nothing parted them before saving."""
    if (one.storage, one.offset, one.sizes) == (other.storage, other.offset, other.sizes):
        return True
    return one.sizes == other.sizes and np.array_equal(container.array(one), container.array(other))


def _check_floats(name: str, tensor: Tensor) -> None:
    if STORAGES[tensor.storage.kind] not in FLOATS:
        raise MalformedError(f"{shown(name)} holds a {tensor.storage.kind}; {', '.join(FLOATS)} are read")
    check_view(tensor)


def _written_by(model: _Object) -> str:
    """What the modules' own attributes tell of the torch that wrote them."""
    if "_backend" in model.attributes:
        return "torch before 1.2"
    return "torch 1.6 or later" if "_non_persistent_buffers_set" in model.attributes else "torch 1.2 to 1.5"
