"""The QRNN against a numpy forward and hand-derived backward, over several windows with carried state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy_parts import activation_penalty, add, compare, embedding_gradient, sigmoid, softmax_nll

from lm_models.qrnn.config import Config
from lm_models.qrnn.model import build


def layer_forward(x_TBI, previous, c, weight, bias, keep):
    """previous: the input before the window, or None for a layer that sees one step. keep scales f."""
    source = x_TBI
    if previous is not None:
        source = np.concatenate([x_TBI, np.concatenate([previous[None], x_TBI[:-1]])], axis=2)
    outputs, tape = [], []
    for s in source:
        z, f, o = np.split(s @ weight.T + bias, 3, axis=1)
        z, f, o = np.tanh(z), sigmoid(f), sigmoid(o)
        new_c = keep * f * z + (1 - keep * f) * c
        outputs.append(o * new_c)
        tape.append((s, c, z, f, o, new_c))
        c = new_c
    return np.stack(outputs), c, tape


def layer_backward(d_h_TBH, tape, weight, keep, num_inputs):
    d_sources, d_weight, d_bias, d_c = [], 0, 0, 0
    for (s, c, z, f, o, new_c), d_h in zip(reversed(tape), d_h_TBH[::-1], strict=True):
        d_c = d_c + d_h * o
        d_f = d_c * keep * (z - c)
        d_gates = np.concatenate([d_c * keep * f * (1 - z**2), d_f * f * (1 - f), d_h * new_c * o * (1 - o)], axis=1)
        d_sources.append(d_gates @ weight)
        d_weight, d_bias = d_weight + d_gates.T @ s, d_bias + d_gates.sum(axis=0)
        d_c = d_c * (1 - keep * f)
    d_source = np.stack(d_sources[::-1])
    d_x = d_source[..., :num_inputs].copy()
    if d_source.shape[-1] > num_inputs:
        d_x[:-1] += d_source[1:, :, num_inputs:]
    return d_x, d_weight, d_bias


def oracle_window(config, p, inputs, targets, state, keep):
    """Return nll, penalty, the new state, and gradients of mean(nll) + penalty by parameter name."""
    x, tapes, new_state = p["embedding"][inputs], [], []
    for layer, (c, previous) in enumerate(state):
        last_input = None if previous is None else x[-1]
        weight, bias = p[f"layers.{layer}.linear.weight"], p[f"layers.{layer}.linear.bias"]
        x, c, tape = layer_forward(x, previous, c, weight, bias, keep)
        tapes.append(tape)
        new_state.append((c, last_input))
    out_name = "embedding" if config.tie else "softmax.weight"
    nll, d_x, d_weight, d_bias = softmax_nll(x, p[out_name], p["softmax.bias"], targets)
    penalty, d_penalty = activation_penalty(x, config.ar, config.tar)
    gradients = {out_name: d_weight, "softmax.bias": d_bias}
    d_x = d_x + d_penalty
    for layer in reversed(range(config.layers)):
        name = f"layers.{layer}.linear"
        d_x, d_w, d_b = layer_backward(d_x, tapes[layer], p[f"{name}.weight"], keep, config.widths[layer][0])
        add(gradients, {f"{name}.weight": d_w, f"{name}.bias": d_b})
    add(gradients, {"embedding": embedding_gradient(d_x, inputs, len(p["embedding"]))})
    return nll, penalty, new_state, gradients


@pytest.mark.parametrize("kernel", ["auto", "reference"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(
    ("config", "steps"),
    [
        (Config(layers=3, hidden=9, embedding=5), (7, 4, 6)),
        (Config(layers=2, hidden=5, embedding=23), (4, 1, 6)),
        (Config(layers=2, hidden=5, embedding=23, first_window=1), (3, 2)),
        (Config(layers=1, hidden=9, embedding=4), (1, 3)),
        (Config(layers=2, hidden=6, embedding=3, tie=False, first_window=1), (5, 5)),
    ],
    ids=["tied", "one-hot input", "one-hot input, window 1", "one layer", "untied, window 1"],
)
def test_equals_numpy(config: Config, steps: tuple[int, ...], training: bool, kernel: str) -> None:
    """Training adds both penalties; evaluation scales f by 1 - zoneout. Both are exact because no dropout is active."""
    fields = {"ar": 2.0, "tar": 1.0} if training else {"zoneout": 0.3}
    names = ("layers", "hidden", "embedding", "first_window", "tie")
    config = Config(**{name: getattr(config, name) for name in names}, **fields)
    torch.manual_seed(6)
    model = build(config, vocab_size=11, kernel=kernel).double().train(training)
    state = [
        (np.zeros((3, h)), np.zeros((3, x)) if window == 2 else None)
        for (x, h), window in zip(config.widths, config.windows, strict=True)
    ]
    compare(model, lambda *window: oracle_window(config, *window, keep=1 - config.zoneout), state, steps)
