from __future__ import annotations

import itertools
import math

import pytest
import torch
from trainer_factory import make_recipe

from harness.config.recipe import Schedule
from harness.training import optimizers


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


def test_adam_state_survives_the_round_trip() -> None:
    def steps(count: int, start: torch.Tensor, state: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict]:
        weight = torch.nn.Parameter(start.clone())
        optimizer = optimizers.make_optimizer(make_recipe(lr=0.1), [weight])
        optimizers.load_state(optimizer, state)
        for _ in range(count):
            weight.grad = 2 * weight.detach()
            optimizer.step()
        return weight.detach(), {k: v.clone() for k, v in optimizers.state_to_tensors(optimizer).items()}

    start = torch.tensor([3.0, -1.0])
    straight, _ = steps(10, start, {})
    halfway, state = steps(4, start, {})
    assert set(state) == {"0.step", "0.exp_avg", "0.exp_avg_sq"}
    resumed, _ = steps(6, halfway, state)
    assert torch.equal(straight, resumed)
