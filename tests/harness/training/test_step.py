from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from leaky_model import Leaky
from trainer_factory import make_recipe

from harness.training import step as step_module
from harness.training.optimizers import make_optimizer
from harness.training.step import LossScale, Step

CPU = torch.device("cpu")
both_optimizers = pytest.mark.parametrize("optimizer", ["adam", "sgd"])


def make_step(model: Leaky, optimizer: str = "adam", **options: Any) -> Step:
    recipe = make_recipe(optimizer=optimizer, lr=0.05, weight_decay=1e-3)
    parameters = list(model.parameters())
    return Step(model, parameters, make_optimizer(recipe, parameters), autocast=nullcontext, **options)


def windows(number: int) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randint(7, (6, 3), generator=draw) for _ in range(number)]


def weights_after(number: int, optimizer: str, **options: Any) -> torch.Tensor:
    torch.manual_seed(3)
    model = Leaky(7).double()
    step = make_step(model, optimizer, **options)
    state = model.initial_state(3)
    for tokens_TB in windows(number):
        state = step(tokens_TB, state)
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@both_optimizers
@pytest.mark.parametrize("clip", [0.0, 0.05, 1e3])
@pytest.mark.parametrize("scaled", [False, True])
def test_folding_clip_and_loss_scale_into_the_optimiser_changes_rounding_only(
    optimizer: str, clip: float, scaled: bool
) -> None:
    folded = weights_after(12, optimizer, clip=clip, folded=True, loss_scale=LossScale(CPU) if scaled else None)
    torch.testing.assert_close(folded, weights_after(12, optimizer, clip=clip), atol=1e-7, rtol=1e-7)


@both_optimizers
def test_an_overflow_skips_the_step_and_halves_the_scale(optimizer: str) -> None:
    model = Leaky(7)
    scale = LossScale(CPU)
    step = make_step(model, optimizer, clip=0.25, folded=True, loss_scale=scale)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    scale.scale.fill_(3e38)
    state = step(windows(1)[0], model.initial_state(3))
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
    assert scale.scale.item() == pytest.approx(1.5e38)
    scale.scale.fill_(2.0**10)
    step(windows(1)[0], state)
    assert not any(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
    assert scale.scale.item() == 2.0**10


def test_the_loss_scale_has_the_constants_of_torch() -> None:
    theirs = torch.amp.GradScaler("cpu")
    theirs.scale(torch.zeros(()))
    assert LossScale(CPU).scale.item() == theirs.get_scale()
    assert theirs.get_growth_interval() == step_module.GROWTH_EVERY


def test_the_scale_doubles_after_enough_good_steps_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_module, "GROWTH_EVERY", 3)
    scale = LossScale(CPU)
    seen = []
    for overflow in (0, 0, 1, 0, 0, 0, 0):
        scale.update(torch.tensor(float(overflow)))
        seen.append(scale.scale.item() / step_module.FIRST_SCALE)
    assert seen == [1, 1, 0.5, 0.5, 0.5, 1, 1]


@pytest.mark.parametrize("clip", [0.0, 0.25])
def test_a_step_that_doubles_the_scale_is_divided_by_the_old_scale(
    clip: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With plain SGD, whose step is proportional to its gradient; Adam's hardly depends on its size."""
    monkeypatch.setattr(step_module, "GROWTH_EVERY", 3)
    scaled = weights_after(7, "sgd", clip=clip, folded=True, loss_scale=LossScale(CPU))
    torch.testing.assert_close(scaled, weights_after(7, "sgd", clip=clip), atol=1e-7, rtol=1e-7)


def test_a_loss_scale_without_folding_is_refused() -> None:
    with pytest.raises(ValueError, match="needs folded clipping"):
        make_step(Leaky(7), clip=0.25, loss_scale=LossScale(CPU))


def test_the_sum_of_nll_is_that_of_the_windows() -> None:
    model = Leaky(7).double()
    step = make_step(model, clip=0.25)
    state, total = model.initial_state(3), 0.0
    for tokens_TB in windows(4):
        with torch.no_grad():
            total += model(tokens_TB[:-1], tokens_TB[1:], state).nll_TB.sum().item()
        state = step(tokens_TB, state)
    assert step.nll_sum.item() == pytest.approx(total, rel=1e-12)
