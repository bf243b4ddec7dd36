"""The suite `zaremba2014` against the published recipe, and its training against a plain loop over torch.nn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from trainer_factory import make_trainer

import lm_models
from harness.core.config.recipe import Recipe, Validation
from harness.suite import load
from harness.system.source import ROOT
from harness.training.optimizers import decay_factor
from lm_models.config import Dropout
from lm_models.recurrent import RecurrentModel

ENTRIES = {entry.name: entry for entry in load(ROOT / "suites" / "zaremba2014.yaml").entries}
# Layers, width, initial range, steps, epochs at the first rate, epochs, decay, dropout. arXiv:1409.2329, section 4.1.
PUBLISHED = {"small": (2, 200, 0.1, 20, 4, 13, 0.5, 0.0), "medium": (2, 650, 0.05, 35, 6, 39, 0.8, 0.5)}
VOCAB, WIDTH, STREAMS = 11, 6, 5
NAMES = ("weight_ih", "weight_hh", "bias_hh")


def recipe_of(name: str) -> Recipe:
    recipe = ENTRIES[name].recipe
    assert recipe is not None
    return recipe


def model_of(name: str, *, width: int | None = None, vocab_size: int = VOCAB) -> nn.Module:
    values = {key: value for key, value in ENTRIES[name].model.items() if key != "builder"}
    values["dropout"] = Dropout(**values["dropout"])
    if width is not None:
        values |= {"hidden": width, "embedding": width}
    return lm_models.build("awd-lstm", lm_models.config_class("awd-lstm")(**values), vocab_size=vocab_size)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_suite_says_what_was_published(name: str) -> None:
    layers, width, initial_range, steps, constant, epochs, decay, rate = PUBLISHED[name]
    model, recipe = ENTRIES[name].model, recipe_of(name)
    assert (model["layers"], model["hidden"], model["embedding"]) == (layers, width, width)
    assert (model["tie"], model["initial_range"]) == (False, initial_range)
    drop = {"embedding": 0, "input": rate, "hidden": rate, "output": rate, "weight": 0}
    assert (model["dropout"], model.get("masks", "window")) == (drop, "step" if rate else "window")
    assert (recipe.optimizer, recipe.batch, recipe.bptt, recipe.epochs) == ("sgd", 20, steps, epochs)
    # TensorFlow's ptb_word_lm.py: cells with one bias, and clip_by_global_norm over the gradients of embedded tokens.
    assert (model["biases"], recipe.clip_embedding) == (1, "occurrences")
    assert (recipe.windows, recipe.weight_decay, recipe.reset_state) == (None, 0, "epoch")
    # The published loss is this one's times the steps of a window.
    assert (recipe.lr / steps, recipe.clip * steps) == pytest.approx((1, 5), rel=1e-15)
    rates = [recipe.lr / steps * decay_factor(recipe, done) for done in range(epochs)]
    assert rates == pytest.approx([decay ** max(0, epoch - constant) for epoch in range(1, epochs + 1)], rel=1e-12)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_parameter_starts_uniform_in_the_initial_range(name: str) -> None:
    torch.manual_seed(3)
    limit = PUBLISHED[name][2]
    for key, parameter in model_of(name, width=64, vocab_size=500).named_parameters():
        values = parameter.detach().double().flatten()
        assert values.abs().max() <= limit, key
        # Kolmogorov's distance from the uniform distribution; 1.95 / sqrt(n) is exceeded with a probability of 0.001.
        shares = (values.sort().values + limit) / (2 * limit)
        distance = (shares - (torch.arange(len(values)) + 0.5) / len(values)).abs().max()
        assert distance < 1.95 / len(values) ** 0.5, key


class PlainLstm(nn.Module):
    """Embedding, LSTM and softmax from torch.nn, with the weights of a model of ours; `bias_ih` is zero and fixed."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, WIDTH)
        self.layers = nn.ModuleList([nn.LSTM(WIDTH, WIDTH), nn.LSTM(WIDTH, WIDTH)])
        self.out = nn.Linear(WIDTH, VOCAB)
        self.double()
        for layer in self.layers:
            layer.bias_ih_l0.requires_grad_(False).zero_()
        for key, parameter in self.named().items():
            parameter.data.copy_(weights[key])
        self.rows_TBE = torch.empty(0)

    def named(self) -> dict[str, nn.Parameter]:
        lstm = {f"layers.{i}.{key}": getattr(self.layers[i], f"{key}_l0") for i in range(2) for key in NAMES}
        outer = {"embedding": self.embedding.weight, "softmax.weight": self.out.weight, "softmax.bias": self.out.bias}
        return outer | lstm

    def forward(self, x_TB, targets_TB, states, masks=(1, 1, 1)):
        self.rows_TBE = self.embedding(x_TB)
        x_TBH, new_states = self.rows_TBE * masks[0], []
        for layer, state, mask in zip(self.layers, states, masks[1:], strict=True):
            x_TBH, new_state = layer(x_TBH, state)
            x_TBH = x_TBH * mask
            new_states.append(tuple(each.detach() for each in new_state))
        log_p_TBV = torch.log_softmax(self.out(x_TBH), dim=-1)
        return -log_p_TBV.gather(-1, targets_TB[..., None])[..., 0], new_states


def zeros() -> list[tuple[torch.Tensor, torch.Tensor]]:
    each = torch.zeros(1, STREAMS, WIDTH, dtype=torch.float64)
    return [(each, each), (each, each)]


def test_training_is_that_of_the_published_loss(tmp_path: Path) -> None:
    """Loss summed over steps and averaged over streams, rate 1 that halves, norm 5; a last shorter window counts as 20.

    The norm is over the gradients of embedded tokens, not of the embedding, as that of TensorFlow's IndexedSlices.
    The norm's 1e-6, which torch adds before it divides, is that of the mean loss: 20 times it here.
    """
    # Text with structure and larger weights, so that some gradients exceed the norm of 5 and some do not.
    ids = ((np.arange(STREAMS * 50) ** 2 // 3) % VOCAB).astype(np.uint16)
    torch.manual_seed(7)
    model = model_of("small", width=WIDTH).double()
    for parameter in model.parameters():
        parameter.data *= 10
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    recipe = replace(recipe_of("small"), batch=STREAMS, epochs=6, validation=Validation(streams=2, window=20))
    trainer = make_trainer(tmp_path, recipe, ids, model=model)
    rows = trainer.fit().curve

    plain = PlainLstm(weights)
    data_TB = torch.from_numpy(ids.astype(np.int64)).view(STREAMS, 50).t()
    norms, dense_norms, sizes = [], [], set()
    for epoch in range(6):
        states, rate = zeros(), [1, 1, 1, 1, 0.5, 0.25][epoch]
        for start in (0, 20, 40):
            inputs_TB, targets_TB = data_TB[start : start + 20][: 49 - start], data_TB[start + 1 : start + 21]
            nll_TB, states = plain(inputs_TB, targets_TB, states)
            loss = nll_TB.mean(dim=1).sum() * 20 / len(nll_TB)
            weights_of = list(plain.named().values())
            *gradients, of_rows = torch.autograd.grad(loss, [*weights_of, plain.rows_TBE])
            norms.append(sum(float(each.square().sum()) for each in [*gradients[1:], of_rows]) ** 0.5)
            dense_norms.append(sum(float(each.square().sum()) for each in gradients) ** 0.5)
            sizes.add(len(nll_TB))
            with torch.no_grad():
                for weight, gradient in zip(weights_of, gradients, strict=True):
                    weight -= rate * min(1.0, 5 / (norms[-1] + 20e-6)) * gradient
    assert sizes == {20, 9}
    assert min(norms) < 5 < max(norms)
    assert max(dense / norm for dense, norm in zip(dense_norms, norms, strict=True)) > 1.005
    assert [row.lr for row in rows] == pytest.approx([20, 20, 20, 20, 10, 5], rel=1e-15)
    for key, weight in plain.named().items():
        torch.testing.assert_close(trainer.module.state_dict()[key], weight.detach(), rtol=0, atol=1e-12)


def test_masks_per_step_are_on_every_layers_output_and_no_recurrent_connection() -> None:
    torch.manual_seed(5)
    model = model_of("medium", width=WIDTH).double()
    assert isinstance(model, RecurrentModel)
    plain = PlainLstm(model.state_dict())
    tokens_TB = torch.randint(VOCAB, (8, STREAMS), generator=torch.Generator().manual_seed(1))
    model.generator = torch.Generator().manual_seed(9)
    nll_TB = model(tokens_TB[:-1], tokens_TB[1:], model.initial_state(STREAMS)).nll_TB
    generator = torch.Generator().manual_seed(9)
    shape = (7, STREAMS, WIDTH)
    masks = [torch.empty(shape, dtype=torch.float64).bernoulli_(0.5, generator=generator) * 2 for _ in range(3)]
    expected_TB, _ = plain(tokens_TB[:-1], tokens_TB[1:], zeros(), masks)
    torch.testing.assert_close(nll_TB, expected_TB, rtol=0, atol=1e-12)
