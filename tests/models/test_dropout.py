"""Masks: shape, scale, reproducibility, and no effect outside training."""

from __future__ import annotations

import pytest
import torch

from lm_models import dropout


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_locked_mask_is_constant_over_time_and_differs_over_streams() -> None:
    ones = torch.ones(6, 4, 50)
    out = dropout.locked(ones, 0.25, training=True, generator=seeded())
    assert (out == out[:1]).all()
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert not torch.equal(out[0, 0], out[0, 1])


def test_a_mask_per_step_differs_over_time() -> None:
    out = dropout.locked(torch.ones(6, 4, 50), 0.25, training=True, generator=seeded(), per_step=True)
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert len(out.flatten(1).unique(dim=0)) == 6
    assert len(out.flatten(0, 1).unique(dim=0)) == 24


def test_embedding_dropout_equals_dropping_rows_of_the_matrix() -> None:
    weight = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    ids = torch.randint(9, (7, 3))
    out = dropout.embedding(weight[ids], ids, len(weight), 0.5, training=True, generator=seeded(3))
    keep = torch.empty(9, dtype=torch.float64).bernoulli_(0.5, generator=seeded(3)) / 0.5
    torch.testing.assert_close(out, (weight * keep[:, None])[ids])
    out.sum().backward()
    counts = torch.bincount(ids.flatten(), minlength=9)
    torch.testing.assert_close(weight.grad, (counts * keep)[:, None].expand(9, 4))


def test_weight_drop_draws_one_number_for_any_size() -> None:
    """A resumed run with the saved generator state drops the same entries of the next window."""
    generators = [seeded(5) for _ in range(3)]
    for size, generator in zip((4, 1000), generators, strict=False):
        dropout.weight(torch.ones(size, size), 0.5, training=True, generator=generator)
    assert torch.equal(generators[0].get_state(), generators[1].get_state())
    first, second = (dropout.weight(torch.ones(50, 50), 0.5, training=True, generator=generators[0]) for _ in range(2))
    assert not torch.equal(first, second)
    resumed = seeded(0)
    resumed.set_state(generators[1].get_state())
    again = dropout.weight(torch.ones(50, 50), 0.5, training=True, generator=resumed)
    assert torch.equal(again, first)


def test_seeds_use_all_64_bits() -> None:
    generator = seeded(1)
    drawn = [dropout.draw_seed(torch.device("cpu"), generator).item() for _ in range(400)]
    assert len(set(drawn)) == 400
    for bit in range(64):
        share = sum((seed >> bit) & 1 for seed in drawn) / 400
        assert 0.35 < share < 0.65, bit


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_masks_preserve_the_mean(p: float) -> None:
    mask = dropout.scaled_mask(torch.empty(0, dtype=torch.float64), (200_000,), p, seeded())
    share = (mask > 0).double().mean().item()
    assert share == pytest.approx(1 - p, abs=5 * (p * (1 - p) / 200_000) ** 0.5)
    assert mask.max().item() == pytest.approx(1 / (1 - p))


@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.5, False)])
def test_nothing_is_drawn_with_p_0_or_in_evaluation(p: float, training: bool) -> None:
    generator = seeded()
    before = generator.get_state()
    x, weight = torch.randn(3, 2, 4), torch.randn(5, 4)
    ids = torch.randint(5, (3, 2))
    assert dropout.locked(x, p, training=training, generator=generator) is x
    assert dropout.weight(weight, p, training=training, generator=generator) is weight
    assert torch.equal(
        dropout.embedding(weight[ids], ids, len(weight), p, training=training, generator=generator), weight[ids]
    )
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("shape", [(3, 5), (1, 3, 5), (4, 3, 5)])
def test_the_masks_of_two_processes_are_columns_of_the_mask_of_one(shape: tuple[int, ...]) -> None:
    like = torch.empty(0, dtype=torch.float64)
    one = seeded()
    whole = [dropout.scaled_mask(like, (*shape[:-2], 2 * shape[-2], shape[-1]), 0.4, one) for _ in range(2)]
    for columns in (slice(0, 3), slice(3, 6)):
        two = dropout.ColumnGenerator()
        two.columns, two.batch = columns, 6
        two.set_state(seeded().get_state())
        for mask in whole:
            assert torch.equal(dropout.scaled_mask(like, shape, 0.4, two), mask[..., columns, :])
        # A mask without streams is the same everywhere.
        words = dropout.scaled_mask(like, (7,), 0.4, two)
        again = torch.Generator()
        again.set_state(one.get_state())
        assert torch.equal(words, dropout.scaled_mask(like, (7,), 0.4, again))
