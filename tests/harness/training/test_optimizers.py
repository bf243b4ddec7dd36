from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from trainer_factory import ASGD, make_recipe

from harness.core.config.recipe import Schedule
from harness.training import optimizers
from harness.training.averaging import averaged_sgd


def test_decay_follows_the_listed_epochs() -> None:
    recipe = make_recipe(decay_at=(3, 5))
    factors = [optimizers.decay_factor(recipe, epoch) for epoch in range(7)]
    assert factors == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01, 0.01])


COSINE_HALF = (1 + math.cos(math.pi / 2)) / 2


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Schedule(kind="linear", flat=0.5, final=0.1), {0: 1, 0.5: 1, 0.75: 0.55, 1: 0.1}),
        (Schedule(kind="cosine", warmup=0.1, flat=0.1), {0.05: 0.5, 0.55: COSINE_HALF, 1: 0}),
        (Schedule(kind="linear"), {1.7: 0}),
        (Schedule(kind="linear", warmup=0.2, final=0.5), {0: 0, 0.1: 0.5, 0.2: 1, 0.6: 0.75, 1: 0.5}),
    ],
)
def test_schedules_have_their_closed_forms(schedule: Schedule, expected: dict[float, float]) -> None:
    factors = [optimizers.schedule_factor(schedule, done) for done in expected]
    assert factors == pytest.approx(list(expected.values()), abs=1e-15)


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine"])
@pytest.mark.parametrize(("warmup", "flat"), [(0.3, 0.0), (0.3, 0.3), (0.1, 0.6), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0)])
def test_a_schedule_never_jumps(kind: str, warmup: float, flat: float) -> None:
    schedule = Schedule(kind=kind, warmup=warmup, flat=flat, final=0.1)  # type: ignore[arg-type]
    steps = 20_000
    factors = [optimizers.schedule_factor(schedule, step / steps) for step in range(steps + 100)]
    assert max(abs(b - a) for a, b in itertools.pairwise(factors)) < 50 / steps
    assert max(factors) == pytest.approx(1, abs=1e-3)
    assert factors[-1] == pytest.approx(1 if kind == "constant" or 1 in (warmup, flat) else 0.1)


def test_adam_is_the_published_algorithm_with_l2_in_the_gradient() -> None:
    """Kingma and Ba 2015, arXiv:1412.6980, algorithm 1."""
    beta1, beta2, lr, decay = 0.7, 0.95, 0.1, 0.3
    recipe = make_recipe(lr=lr, betas=(beta1, beta2), weight_decay=decay)
    weight = torch.nn.Parameter(torch.tensor([3.0, -1.0], dtype=torch.float64))
    optimizer = optimizers.make_optimizer(recipe, [weight])
    w, m, v = weight.detach().numpy().copy(), np.zeros(2), np.zeros(2)
    for t, gradient in enumerate(np.random.default_rng(0).normal(size=(5, 2)), start=1):
        weight.grad = torch.from_numpy(gradient)
        optimizer.step()
        g = gradient + decay * w
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        w = w - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + 1e-8)
        assert weight.detach().numpy() == pytest.approx(w, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_scalars_of_averaged_sgd_keep_every_digit(dtype: torch.dtype) -> None:
    def make() -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
        weight = torch.nn.Parameter(torch.tensor([3.0, -1.0], dtype=dtype))
        return weight, averaged_sgd(make_recipe(ASGD, lr=1 / 3), None, [weight])

    weight, optimizer = make()
    for _ in range(4):
        weight.grad = 2 * weight.detach()
        optimizer.step()
    # As another torch, or another default dtype, may have saved it.
    saved = {
        name: value.double() / 3 if name.endswith(("eta", "mu")) else value
        for name, value in optimizers.state_to_tensors(optimizer).items()
    }
    _, other = make()
    optimizers.load_state(other, saved)
    for name, value in optimizers.state_to_tensors(other).items():
        assert torch.equal(value, saved[name]), name
