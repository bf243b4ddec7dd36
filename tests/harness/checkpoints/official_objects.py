"""The objects of an official checkpoint, as `pickle_assembler` writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from pickle_assembler import Call, Global, Instance, Writer

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
    """One layer, in a WeightDrop unless drop is None; copy: the recurrent matrix stands under its plain name too."""
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
    rnns = module(
        writer, "torch.nn.modules.container", "ModuleList", {}, modules=dict(zip("0123", layers, strict=False))
    )
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
