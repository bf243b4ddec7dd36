"""The AWD-LSTM against a numpy forward and hand-derived backward, over several windows with carried state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy_parts import activation_penalty, add, compare, embedding_gradient, sigmoid, softmax_nll

from lm_models.awd_lstm.config import Config
from lm_models.awd_lstm.model import build


def layer_forward(x_TBI, h, c, w_ih, w_hh, b_ih, b_hh):
    tape = []
    for x in x_TBI:
        i, f, g, o = np.split(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh, 4, axis=1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        new_c = f * c + i * g
        tape.append((x, h, c, i, f, g, o, new_c))
        c, h = new_c, o * np.tanh(new_c)
    outputs = [o * np.tanh(new_c) for *_, o, new_c in tape]
    return np.stack(outputs), h, c, tape


def layer_backward(d_h_TBH, tape, w_ih, w_hh):
    d_x, d_w_ih, d_w_hh, d_b = [], 0, 0, 0
    d_h_next = d_c_next = 0
    for (x, h, c, i, f, g, o, new_c), d_out in zip(reversed(tape), d_h_TBH[::-1], strict=True):
        d_h = d_out + d_h_next
        d_c = d_c_next + d_h * o * (1 - np.tanh(new_c) ** 2)
        d_gates = np.concatenate(
            [d_c * g * i * (1 - i), d_c * c * f * (1 - f), d_c * i * (1 - g**2), d_h * np.tanh(new_c) * o * (1 - o)],
            axis=1,
        )
        d_x.append(d_gates @ w_ih)
        d_w_ih, d_w_hh, d_b = d_w_ih + d_gates.T @ x, d_w_hh + d_gates.T @ h, d_b + d_gates.sum(axis=0)
        d_h_next, d_c_next = d_gates @ w_hh, d_c * f
    return np.stack(d_x[::-1]), d_w_ih, d_w_hh, d_b


def oracle_window(config, p, inputs, targets, state):
    """Return nll, penalty, the new state, and gradients of mean(nll) + penalty by parameter name."""
    x, tapes, new_state = p["embedding"][inputs], [], []
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    for layer, (h, c) in enumerate(state):
        x, h, c, tape = layer_forward(x, h, c, *(p[f"layers.{layer}.{name}"] for name in names))
        tapes.append(tape)
        new_state.append((h, c))
    out_name = "embedding" if config.tie else "softmax.weight"
    nll, d_x, d_weight, d_bias = softmax_nll(x, p[out_name], p["softmax.bias"], targets)
    penalty, d_penalty = activation_penalty(x, config.ar, config.tar)
    gradients = {out_name: d_weight, "softmax.bias": d_bias}
    d_x = d_x + d_penalty
    for layer in reversed(range(config.layers)):
        weights = (p[f"layers.{layer}.weight_ih"], p[f"layers.{layer}.weight_hh"])
        d_x, d_ih, d_hh, d_b = layer_backward(d_x, tapes[layer], *weights)
        add(gradients, {f"layers.{layer}.{name}": d for name, d in zip(names, (d_ih, d_hh, d_b, d_b), strict=True)})
    add(gradients, {"embedding": embedding_gradient(d_x, inputs, len(p["embedding"]))})
    return nll, penalty, new_state, gradients


@pytest.mark.parametrize("kernel", ["auto", "reference"])
@pytest.mark.parametrize(
    ("config", "steps"),
    [
        (Config(layers=3, hidden=9, embedding=5), (7, 4, 6)),
        (Config(layers=2, hidden=5, embedding=23), (4, 1, 6)),
        (Config(layers=1, hidden=9, embedding=4, ar=2, tar=1), (1, 3)),
        (Config(layers=2, hidden=6, embedding=3, tie=False, ar=0.5, tar=1.5), (5, 5)),
    ],
    ids=["tied", "one-hot input", "one layer, penalties", "untied, penalties"],
)
def test_equals_numpy(config: Config, steps: tuple[int, ...], kernel: str) -> None:
    torch.manual_seed(5)
    model = build(config, vocab_size=11, kernel=kernel).double()
    state = [tuple(np.zeros((3, h)) for _ in range(2)) for _, h in config.widths]
    compare(model, lambda *window: oracle_window(config, *window), state, steps)


@pytest.mark.parametrize("kernel", ["auto", "reference"])
def test_a_single_bias_is_the_second_of_two_with_the_first_at_zero(kernel: str) -> None:
    torch.manual_seed(5)
    two = build(Config(layers=2, hidden=6, embedding=3, tie=False), vocab_size=11, kernel=kernel).double()
    config = Config(layers=2, hidden=6, embedding=3, tie=False, biases=1)
    one = build(config, vocab_size=11, kernel=kernel).double()
    assert sum(each.numel() for each in one.parameters()) == config.num_parameters(11)
    missing = two.load_state_dict(one.state_dict(), strict=False).missing_keys
    assert missing == ["layers.0.bias_ih", "layers.1.bias_ih"]
    for key in missing:
        torch.nn.init.zeros_(two.get_parameter(key))
    tokens_TB = torch.randint(11, (8, 3), generator=torch.Generator().manual_seed(1))
    for model in (one, two):
        model(tokens_TB[:-1], tokens_TB[1:], model.initial_state(3)).nll_TB.mean().backward()
    for key, parameter in one.named_parameters():
        assert torch.equal(parameter.grad, two.get_parameter(key).grad), key
