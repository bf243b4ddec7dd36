"""Write files of torch.save opcode by opcode: hostile ones, those of 2018, and the objects of official checkpoints."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.system.source import ROOT

LEGACY_HEAD = (
    0x1950A86A20F9469CFC6C,
    1001,
    {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}},
)


class Global(NamedTuple):
    module: str
    name: str


class Call(NamedTuple):
    callee: Any
    args: tuple[Any, ...]


class Instance(NamedTuple):
    cls: Any
    state: Any = None


class Persistent(NamedTuple):
    value: Any


class Raw(NamedTuple):
    opcodes: bytes


@dataclass
class Writer:
    """Collects storages under rising keys.

    storage: their class. rebuild: the call that makes a tensor; `_rebuild_tensor` is that of 2018, whose parameters
    are calls too. sources: whether classes are named together with their source text.
    """

    storage: Global = field(default_factory=lambda: Global("torch", "FloatStorage"))
    rebuild: str = "_rebuild_tensor_v2"
    sources: bool = False
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def tensor(self, array: np.ndarray) -> Call:
        """A tensor of the whole array; the same array twice is the same storage twice."""
        key = next((key for key, known in self.arrays.items() if known is array), str(len(self.arrays)))
        self.arrays[key] = array
        view = (None,) if self.sources else ()
        pid = Persistent(("storage", self.storage, key, "cpu", array.size, *view))
        strides = tuple(stride // array.itemsize for stride in np.ascontiguousarray(array).strides)
        if self.rebuild == "_rebuild_tensor":
            tensor = Call(Global("torch._utils", self.rebuild), (pid, 0, array.shape, strides))
            return Call(Global("torch.nn.parameter", "Parameter"), (tensor,))
        rest = (True, Call(Global("collections", "OrderedDict"), ()))
        return Call(Global("torch._utils", self.rebuild), (pid, 0, array.shape, strides, *rest))

    def cls(self, module: str, name: str) -> Any:
        named = Global(module, name)
        return Persistent(("module", named, f"/home/x/{name}.py", f"class {name}: ...")) if self.sources else named

    def write(self, path: Path, root: Any, *, legacy: bool) -> Path:
        return (self.legacy if legacy else self.zipped)(path, root)

    def legacy(self, path: Path, root: Any) -> Path:
        keys = list(self.arrays)
        storages = b"".join(
            struct.pack("<q", array.size) + np.ascontiguousarray(array).tobytes() for array in self.arrays.values()
        )
        path.write_bytes(b"".join(pickled(part) for part in (*LEGACY_HEAD, root, keys)) + storages)
        return path

    def zipped(self, path: Path, root: Any, compression: int = zipfile.ZIP_STORED) -> Path:
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("archive/data.pkl", pickled(root))
            archive.writestr("archive/byteorder", "little")
            for key, array in self.arrays.items():
                archive.writestr(f"archive/data/{key}", np.ascontiguousarray(array).tobytes())
        return path


def pickled(value: Any) -> bytes:
    """A pickle of protocol 2."""
    return b"\x80\x02" + opcodes(value) + b"."


def opcodes(value: Any) -> bytes:
    match value:
        case Raw():
            return value.opcodes
        case Global():
            return f"c{value.module}\n{value.name}\n".encode()
        case Call():
            return opcodes(value.callee) + opcodes(value.args) + b"R"
        case Instance():
            return opcodes(value.cls) + b")\x81" + (opcodes(value.state) + b"b" if value.state is not None else b"")
        case Persistent():
            return opcodes(value.value) + b"Q"
        case tuple():
            return b"(" + b"".join(map(opcodes, value)) + b"t"
        case list():
            return b"](" + b"".join(map(opcodes, value)) + b"e"
        case Mapping():
            return b"}(" + b"".join(opcodes(key) + opcodes(item) for key, item in value.items()) + b"u"
        case _:
            return pickle.dumps(value, 2)[2:-1]


RATES = {"dropout": 0.4, "dropouti": 0.3, "dropouth": 0.2, "dropoute": 0.1}


def module(writer: Writer, where: str, name: str, state: dict[str, Any], **parts: dict[str, Any]) -> Instance:
    empty = Call(Global("collections", "OrderedDict"), ())
    parameters = {key: writer.tensor(value) for key, value in parts.get("parameters", {}).items()}
    return Instance(
        writer.cls(where, name),
        {
            "_parameters": parameters,
            "_modules": parts.get("modules", {}),
            "_buffers": empty,
            "_forward_hooks": empty,
            "training": False,
            **state,
        },
    )


def lstm_weights(rng: np.random.Generator, inputs: int, hidden: int) -> dict[str, np.ndarray]:
    shapes = {"weight_ih": (4 * hidden, inputs), "weight_hh": (4 * hidden, hidden), "bias_ih": (4 * hidden,)}
    shapes["bias_hh"] = (4 * hidden,)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def lstm(writer: Writer, weights: dict[str, np.ndarray], *, drop: float | None, copy: bool = False) -> Instance:
    """One layer, in a WeightDrop unless drop is None. copy: with a second matrix under the plain name."""
    named = {f"{name}_l0": value for name, value in weights.items()}
    if drop is None:
        return module(writer, "torch.nn.modules.rnn", "LSTM", {"num_layers": 1}, parameters=named)
    named["weight_hh_l0_raw"] = named.pop("weight_hh_l0")
    state: dict[str, Any] = {"num_layers": 1, "flatten_parameters": None}
    if copy:
        state["weight_hh_l0"] = writer.tensor(np.zeros_like(named["weight_hh_l0_raw"]))
    inner = module(writer, "torch.nn.modules.rnn", "LSTM", state, parameters=named)
    wrapper = {"weights": ["weight_hh_l0"], "dropout": drop, "variational": False}
    return module(writer, "weight_drop", "WeightDrop", wrapper, modules={"module": inner})


def qrnn(writer: Writer, weight: np.ndarray, bias: np.ndarray, *, window: int, **changes: Any) -> Instance:
    linear = module(writer, "torch.nn.modules.linear", "Linear", {}, parameters={"bias": bias, "weight_raw": weight})
    dropped = module(writer, "weight_drop", "WeightDrop", {"dropout": 0.25}, modules={"module": linear})
    state = {"window": window, "zoneout": 0, "output_gate": True, "save_prev_x": True, "prevX": None, **changes}
    return module(writer, "torchqrnn.qrnn", "QRNNLayer", state, modules={"linear": dropped})


def language_model(
    writer: Writer,
    layers: list[Instance],
    embedding: np.ndarray,
    bias: np.ndarray,
    decoder: np.ndarray | None = None,
    **state: Any,
) -> Instance:
    numbered = {str(number): layer for number, layer in enumerate(layers)}
    rnns = module(writer, "torch.nn.modules.container", "ModuleList", {}, modules=numbered)
    weight = embedding if decoder is None else decoder
    modules = {
        "encoder": module(writer, "torch.nn.modules.sparse", "Embedding", {}, parameters={"weight": embedding}),
        "rnns": rnns,
        "decoder": module(writer, "torch.nn.modules.linear", "Linear", {}, parameters={"bias": bias, "weight": weight}),
    }
    return module(writer, "model", "RNNModel", {**RATES, "nhid": 7, **state}, modules=modules)


def criterion(writer: Writer, splits: list[int], tails: tuple[np.ndarray, np.ndarray] | None = None) -> Instance:
    parameters = {} if tails is None else {"tail_vectors": tails[0], "tail_bias": tails[1]}
    state = {"splits": [0, *splits, 100_000_000], "nsplits": len(splits) + 1}
    return module(writer, "splitcross", "SplitCrossEntropyLoss", state, parameters=parameters)


def optimizer() -> Instance:
    return Instance(Global("torch.optim.adam", "Adam"), {"state": {}, "param_groups": []})


def run_limited(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script in a new process, which may limit its own memory."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=200, env=environment)
