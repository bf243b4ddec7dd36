"""Training compared with the official loop, written with torch's LSTM and optimisers and no code of the harness.

SGD, sampled windows with their scaled learning rate, AR and TAR, clipping over model and loss together, the switch to
averaged SGD with either handover, and fine-tuning.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from leaky_model import corpus_of
from torch import Tensor, nn
from torch.nn import functional

import models
from harness.config.recipe import Averaging, Finetune, Recipe, Validation, WindowSampling
from harness.training.trainer import Trainer
from models.awd_lstm.config import Config

VOCAB, WIDTH, BPTT, BATCH, STD = 12, 5, 8, 3, 2.0
CUTOFFS = (4, 7)
AR, TAR, CLIP, DECAY, LR = 2.0, 1.0, 0.2, 1e-3, 12.0
Loop = dict[str, Any]


class Net(nn.Module):
    """One LSTM layer between a tied embedding and logits."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        weights = dict(ours.named_parameters())
        self.rnn = nn.LSTM(WIDTH, WIDTH).double()
        with torch.no_grad():
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(self.rnn, f"{name}_l0").copy_(weights[f"layers.0.{name}"])
        self.words = nn.Parameter(weights["embedding"].detach().clone())
        self.bias = nn.Parameter(weights["softmax.bias"].detach().clone())


class Tails(nn.Module):
    """The criterion's parameters. Tail k has head column -k."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.zeros(len(CUTOFFS), WIDTH).double())
        self.bias = nn.Parameter(torch.zeros(len(CUTOFFS)).double())

    def forward(self, net: Net, h: Tensor, targets: Tensor) -> Tensor:
        edges = [*CUTOFFS, VOCAB]
        head = functional.linear(h, torch.cat([net.words[: edges[0]], self.vectors]))
        head = torch.log_softmax(head + torch.cat([net.bias[: edges[0]], self.bias]), -1)
        columns = [head[..., : edges[0]]]
        for k in range(1, len(edges)):
            a, b = edges[k - 1], edges[k]
            tail = torch.log_softmax(functional.linear(h, net.words[a:b], net.bias[a:b]), -1)
            columns.append(head[..., -k, None] + tail)
        return -torch.cat(columns, -1).gather(-1, targets[..., None]).mean()


def epoch(loop: Loop, data: Tensor) -> None:
    net, tails, optimizer = loop["net"], loop["tails"], loop["optimizer"]
    params = [*net.parameters(), *tails.parameters()]
    hidden, i = (torch.zeros(1, BATCH, WIDTH).double(),) * 2, 0
    while i < len(data) - 2:
        bptt = BPTT if loop["rng"].random() < 0.95 else BPTT / 2
        length = max(5, int(loop["rng"].normal(bptt, STD)))
        (group,) = optimizer.param_groups
        lr, group["lr"] = group["lr"], group["lr"] * length / BPTT
        window = data[i : i + min(length, len(data) - 1 - i) + 1]
        optimizer.zero_grad()
        h, hidden = net.rnn(net.words[window[:-1]], tuple(part.detach() for part in hidden))
        loss = tails(net, h, window[1:]) + AR * h.pow(2).mean() + TAR * (h[1:] - h[:-1]).pow(2).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, CLIP)
        optimizer.step()
        group["lr"] = lr
        i += length


@torch.no_grad()
def evaluate(loop: Loop, valid: Tensor) -> float:
    """The loss over a split as one stream, with averaged weights if there are any; keeps the best."""
    net, tails, optimizer = loop["net"], loop["tails"], loop["optimizer"]
    raw = {parameter: parameter.data for parameter in net.parameters()}
    averages = [(each, optimizer.state[each]["ax"]) for each in optimizer.state if "ax" in optimizer.state[each]]
    raw |= {parameter: parameter.data for parameter, _ in averages}
    for parameter, average in averages:
        parameter.data = average.clone()
    h, _ = net.rnn(net.words[valid[:-1, None]])
    loss = float(tails(net, h, valid[1:, None]))
    if loss < loop["stored"]:
        loop["stored"] = loss
        loop["best"] = [parameter.data.clone() for parameter in [*net.parameters(), *tails.parameters()]]
    for parameter, data in raw.items():
        parameter.data = data
    return loss


def official(ours: nn.Module, data: Tensor, valid: Tensor, recipe: Recipe, *, handover: bool) -> Loop:
    """main.py, then finetune.py. handover: whether averaged SGD is given the model's parameters alone."""
    assert recipe.averaging is not None
    assert recipe.finetune is not None
    net, tails = Net(ours), Tails()
    every = [*net.parameters(), *tails.parameters()]
    rng = np.random.Generator(np.random.PCG64(5))
    optimizer: torch.optim.Optimizer = torch.optim.SGD(every, lr=LR, weight_decay=DECAY)
    loop: Loop = {"net": net, "tails": tails, "optimizer": optimizer, "rng": rng, "stored": 1e8, "fired": None}
    handed = list(net.parameters()) if handover else every
    losses: list[float] = []
    loop["all"] = []
    for number in range(1, (recipe.epochs or 0) + 1):
        epoch(loop, data)
        loss = evaluate(loop, valid)
        loop["all"].append(loss)
        nonmono = recipe.averaging.patience
        if loop["fired"] is None and len(losses) > nonmono and loss > min(losses[:-nonmono]):
            loop["optimizer"] = torch.optim.ASGD(handed, lr=LR, t0=0, lambd=0.0, weight_decay=DECAY)
            loop["fired"] = number
        losses.append(loss)
    with torch.no_grad():
        for parameter, best in zip(every, loop["best"], strict=True):
            parameter.copy_(best)
            parameter.grad = None
    loop["optimizer"] = torch.optim.ASGD(handed, lr=LR, t0=0, lambd=0.0, weight_decay=DECAY)
    losses = []
    for _ in range(recipe.finetune.epochs):
        epoch(loop, data)
        loss = evaluate(loop, valid)
        loop["all"].append(loss)
        if len(losses) > recipe.finetune.patience and loss > min(losses[: -recipe.finetune.patience]):
            break
        losses.append(loss)
    return loop


def markov_ids(size: int) -> np.ndarray:
    """Text with something to learn in it: each word mostly follows from the last."""
    rng = np.random.default_rng(1)
    ids = [0]
    for _ in range(size - 1):
        ids.append((ids[-1] * 5 + 3) % VOCAB if rng.random() < 0.7 else int(rng.integers(VOCAB)))
    return np.array(ids, dtype=np.uint8)


@pytest.mark.parametrize("handover", [False, True])
def test_two_stages_follow_the_official_trajectory(tmp_path: Path, handover: bool) -> None:
    recipe = Recipe(
        optimizer="sgd",
        lr=LR,
        batch=BATCH,
        bptt=BPTT,
        epochs=9,
        clip=CLIP,
        weight_decay=DECAY,
        windows=WindowSampling(std=STD),
        validation=Validation(streams=1),
        averaging=Averaging(patience=1, official_handover=handover),
        finetune=Finetune(epochs=5, patience=1),
    )
    torch.manual_seed(2)
    config = Config(layers=1, hidden=WIDTH, embedding=WIDTH, ar=AR, tar=TAR, cutoffs=CUTOFFS, tail_order="reversed")
    model = models.build("awd-lstm", config, vocab_size=VOCAB).double()
    ids = markov_ids(400)
    train, valid = ids[:300], ids[300:]
    rows = len(train) // BATCH
    data = torch.from_numpy(train[: rows * BATCH].astype(np.int64)).view(BATCH, -1).t()
    expected = official(model, data, torch.from_numpy(valid.astype(np.int64)), recipe, handover=handover)
    corpus = corpus_of(train, valid, valid, VOCAB)
    identity = {"model": {}}
    trainer = Trainer(model, corpus, recipe, seed=5, folder=tmp_path, identity=identity, autocast=nullcontext)
    progress = trainer.fit()
    assert progress.averaging_epoch == expected["fired"]
    assert progress.averaging_epoch is not None
    assert [row.valid_nll_nats for row in progress.curve] == pytest.approx(expected["all"], rel=1e-6)
    # Rounding differences of 1e-16 grow over the steps to the tolerance here.
    names = {
        **{f"layers.0.{name}": f"rnn.{name}_l0" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")},
        "embedding": "words",
        "softmax.bias": "bias",
    }
    theirs = {**dict(expected["net"].named_parameters()), **dict(expected["tails"].named_parameters(prefix="tails"))}
    names |= {"softmax.tail_vectors": "tails.vectors", "softmax.tail_bias": "tails.bias"}
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, theirs[names[name]], rtol=1e-4, atol=1e-6, msg=name)
