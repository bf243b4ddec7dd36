"""The minGRU against a loop over steps in numpy, and what its layers share with the other recurrent models."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy_parts import sigmoid
from torch import Tensor

import lm_kernels
import lm_models
from lm_models.config import Dropout
from lm_models.mingru.config import Config
from lm_models.recurrent import RecurrentModel
from lm_models.step import detach

V = 11


def make(kernel: str = "auto", **fields: Any) -> RecurrentModel:
    torch.manual_seed(0)
    config = Config(**{"layers": 2, "hidden": 7, "embedding": 5, **fields})
    model = lm_models.build("mingru", config, vocab_size=V, kernel=kernel).double()
    assert isinstance(model, RecurrentModel)
    with torch.no_grad():
        model.embedding.mul_(8)
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.normal_()
    return model


def ids(steps: int, streams: int = 3) -> Tensor:
    return torch.randint(V, (steps, streams), generator=torch.Generator().manual_seed(1))


def norm(x_BE: np.ndarray, weight_E: np.ndarray, bias_E: np.ndarray) -> np.ndarray:
    centred = x_BE - x_BE.mean(-1, keepdims=True)
    return centred / np.sqrt(x_BE.var(-1, keepdims=True) + 1e-5) * weight_E + bias_E


def oracle(model: RecurrentModel, x_TB: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Losses of all targets and the last state of each layer, one step after the other."""
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}
    config, streams = model.config, x_TB.shape[1]
    states = [np.zeros((streams, config.hidden)) for _ in range(config.layers)]
    losses = []
    for inputs, targets in pairwise(x_TB):
        x = p["embedding"][inputs]
        for index in range(config.layers):
            q = {key.split(".", 2)[2]: value for key, value in p.items() if key.startswith(f"layers.{index}.")}
            gates = norm(x, q["norm.weight"], q["norm.bias"]) @ q["gates.weight"].T + q["gates.bias"]
            candidate, z = np.tanh(gates[:, : config.hidden]), sigmoid(gates[:, config.hidden :])
            states[index] = (1 - z) * states[index] + z * candidate
            x = x + states[index] @ q["narrow.weight"].T + q["narrow.bias"]
        x = norm(x, q["last_norm.weight"], q["last_norm.bias"])
        logits = x @ p["softmax.weight" if not config.tie else "embedding"].T + p["softmax.bias"]
        logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
        losses.append(-logits[np.arange(streams), targets])
    return np.stack(losses), states


@pytest.mark.parametrize("kernel", ["auto", "reference"])
@pytest.mark.parametrize("lengths", [[12], [5, 1, 6]])
@pytest.mark.parametrize(
    "fields", [{}, {"layers": 1}, {"layers": 3, "hidden": 4, "embedding": 23}, {"tie": False}], ids=str
)
def test_equals_a_loop_over_steps(fields: dict[str, Any], lengths: list[int], kernel: str) -> None:
    """An embedding of 23 is more than twice the vocabulary, so the first layer reads one-hot symbols."""
    model, x = make(kernel, **fields), ids(13)
    state, first, losses = model.initial_state(3), 0, []
    for length in lengths:
        step = model(x[first : first + length], x[first + 1 : first + length + 1], state)
        state, first = detach(step.state), first + length
        losses.append(step.nll_TB.detach())
    expected, states = oracle(model, x.numpy())
    np.testing.assert_allclose(torch.cat(losses).numpy(), expected, rtol=1e-10, atol=1e-12)
    for (h_1BH,), h_BH in zip(state, states, strict=True):
        np.testing.assert_allclose(h_1BH[0].numpy(), h_BH, rtol=1e-10, atol=1e-12)


def test_gradients() -> None:
    model, x = make(hidden=3, embedding=2), ids(5, 2)
    state = detach(model(x[:2], x[1:3], model.initial_state(2)).state)
    parameters = dict(model.named_parameters())

    def loss(*values: Tensor) -> Tensor:
        arguments = (x[2:-1], x[3:], state)
        return torch.func.functional_call(model, dict(zip(parameters, values, strict=True)), arguments).nll_TB

    assert torch.autograd.gradcheck(loss, tuple(parameters.values()))


@pytest.mark.parametrize("field", ["embedding", "input", "hidden", "output", "weight"])
def test_every_dropout_is_active_in_training_only(field: str) -> None:
    model, plain, x = make(dropout=Dropout(**{field: 0.5})), make(), ids(6)

    def loss(seed: int) -> Tensor:
        model.generator = torch.Generator().manual_seed(seed)
        return model(x[:-1], x[1:], model.initial_state(3)).nll_TB

    assert torch.equal(loss(1), loss(1))
    assert not torch.allclose(loss(1), loss(2))
    model.eval()
    assert torch.equal(loss(1), plain(x[:-1], x[1:], plain.initial_state(3)).nll_TB)


def test_names_the_kernel_it_runs() -> None:
    assert make().kernels == {"fo_pool": lm_kernels.resolve("fo_pool")[0]}
    with pytest.raises(ValueError, match="fo_pool backend 'fused' is unknown"):
        make("fused")


@pytest.mark.parametrize("cutoffs", [(), (3, 6)])
@pytest.mark.parametrize("embedding", [5, 23])
def test_formulas_agree_with_the_built_model(embedding: int, cutoffs: tuple[int, ...]) -> None:
    config = Config(layers=2, hidden=7, embedding=embedding, cutoffs=cutoffs)
    model = lm_models.build("mingru", config, vocab_size=V)
    assert sum(parameter.numel() for parameter in model.parameters()) == config.num_parameters(V)
    if not cutoffs:
        matrices = sum(p.numel() for p in model.parameters() if p.ndim == 2)
        looked_up = 2 * 7 * (embedding - V) if embedding > 2 * V else 0
        assert config.forward_flops_per_token(V) == 2 * (matrices - looked_up)
