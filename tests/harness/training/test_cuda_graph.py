from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from leaky_model import Leaky
from trainer_factory import make_recipe, make_trainer, tensor_files, timeless

import lm_models
from harness.core.config.speed import Speed
from harness.training import cuda_graph
from harness.training.cuda_graph import GraphStep, copy_state
from harness.training.optimizers import make_optimizer, set_learning_rate
from harness.training.step import Step
from lm_models.config import Dropout
from lm_models.step import State

RECIPE = make_recipe(lr=0.05, weight_decay=1e-3, clip=0.25)
LENGTHS = [5, 5, 7, 5, 5, 7, 7, 5, 3, 5, 7, 3, 3, 5]


class Replayed:
    """Stands in for a CUDA graph: runs nothing until it is replayed."""

    captures = 0

    def __init__(self, run: Callable[[], None]) -> None:
        Replayed.captures += 1
        self.replay = run


def trained(*, graph: bool) -> tuple[torch.Tensor, State, torch.Tensor, GraphStep]:
    torch.manual_seed(3)
    model = Leaky(7, dropout=0.3).double()
    model.generator = torch.Generator().manual_seed(4)
    parameters = list(model.parameters())
    optimizer = make_optimizer(RECIPE, parameters)
    step = Step(model, parameters, optimizer, clip=RECIPE.clip, autocast=nullcontext)
    draw = torch.Generator().manual_seed(0)
    state: State = model.initial_state(3)
    fixed = GraphStep(step, model.initial_state(3), model.generator, capture=Replayed)
    for number, length in enumerate(LENGTHS):
        tokens_TB = torch.randint(7, (length + 1, 3), generator=draw)
        set_learning_rate(optimizer, 0.05 / (1 + number))
        if graph:
            fixed(tokens_TB)
        else:
            state = step(tokens_TB, state)
    weights = torch.cat([parameter.detach().flatten() for parameter in parameters])
    return weights, fixed.state if graph else state, step.nll_sum, fixed


@pytest.mark.parametrize(("max_graphs", "replays"), [(0, 0), (1, 5), (96, 10)])
def test_replayed_steps_equal_plain_steps_bit_for_bit(
    max_graphs: int, replays: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No length is captured in the first three steps, nor at its first time."""
    monkeypatch.setattr(cuda_graph, "MAX_GRAPHS", max_graphs)
    Replayed.captures = 0
    (*ours, fixed), (*plain, unused) = trained(graph=True), trained(graph=False)
    for mine, other in zip(ours, plain, strict=True):
        assert isinstance(mine, torch.Tensor)
        assert isinstance(other, torch.Tensor)
        assert torch.equal(mine, other)
    assert (Replayed.captures, fixed.steps, fixed.replays) == (min(max_graphs, 3), 14, replays)
    assert (unused.steps, unused.replays, unused.capture_s) == (0, 0, 0.0)


@pytest.mark.parametrize("speed", [Speed(), Speed(resident=True)])
def test_a_loop_of_replayed_steps_is_that_of_plain_steps_over_epochs_too(
    tmp_path: Path, ids: np.ndarray, speed: Speed
) -> None:
    """Each epoch begins with another state, whose values the graph has to read."""
    plain = make_trainer(tmp_path / "plain", RECIPE, ids)
    replayed = make_trainer(tmp_path / "replayed", RECIPE, ids, speed=speed)
    replayed.graph = GraphStep(replayed.update, replayed.state, replayed.generator, capture=Replayed)
    assert timeless(replayed.fit().curve) == timeless(plain.fit().curve)
    assert tensor_files(tmp_path / "replayed") == tensor_files(tmp_path / "plain")
    assert replayed.graph.replays > 0


def test_a_nested_state_is_copied_in_place() -> None:
    target, source = ((torch.zeros(1, 2), torch.zeros(2)),), ((torch.ones(1, 2), torch.arange(2.0)),)
    places = [part.data_ptr() for part in target[0]]
    copy_state(target, source)
    assert [part.data_ptr() for part in target[0]] == places
    assert torch.equal(target[0][1], source[0][1])
    with pytest.raises(ValueError, match="argument"):
        copy_state(target, (source[0][:1],))


@pytest.mark.gpu
@pytest.mark.parametrize("builder", ["awd-lstm", "qrnn"])
def test_a_captured_step_trains_as_a_plain_step(builder: str) -> None:
    """Without dropout the losses agree within rounding; with it, masks differ from replay to replay."""
    losses = {graph: _cuda_losses(builder, 0.0, graph=graph) for graph in (False, True)}
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)
    assert losses[True][-1] < losses[True][0]
    dropped = _cuda_losses(builder, 0.4, graph=True, lr=1e-30)
    assert len(set(dropped[-4:])) == 4


def _cuda_losses(builder: str, weight_drop: float, *, graph: bool, lr: float = 1e-3) -> list[float]:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    device = torch.device("cuda")
    torch.manual_seed(0)
    config = lm_models.config_class(builder)(layers=2, hidden=64, embedding=32, dropout=Dropout(weight=weight_drop))
    model = lm_models.build(builder, config, vocab_size=50).to(device)
    model.generator = torch.Generator(device)
    parameters = list(model.parameters())
    optimizer = make_optimizer(RECIPE, parameters, in_graph=True)
    step = Step(model, parameters, optimizer, clip=0.25, autocast=nullcontext)
    fixed = GraphStep(step, model.initial_state(8), model.generator) if graph else None
    tokens_TB = torch.randint(50, (21, 8), generator=torch.Generator().manual_seed(0)).to(device)
    losses, before = [], 0.0
    for _ in range(20):
        set_learning_rate(optimizer, lr)
        if fixed is not None:
            fixed.load_state(model.initial_state(8))
            fixed(tokens_TB)
        else:
            step(tokens_TB, model.initial_state(8))
        total = step.nll_sum.item()
        losses.append(total - before)
        before = total
    return losses
