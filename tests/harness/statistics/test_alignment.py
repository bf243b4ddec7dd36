from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.statistics.alignment import common_blocks

LENGTHS = st.lists(st.integers(0, 4), min_size=8, max_size=60)


def edges_of(lengths: list[int], start: int = 0) -> np.ndarray:
    return start + np.concatenate([[0], np.cumsum(lengths)])


@given(LENGTHS, st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_ranges_hold_the_losses_of_whole_targets(lengths: list[int], max_blocks: int, seed: int) -> None:
    """B joins neighbouring tokens of A; both lose the same nats per byte, so each range must have equal sums."""
    rng = np.random.default_rng(seed)
    edges_a = edges_of(lengths)
    kept = np.unique(np.concatenate([[0, len(lengths)], rng.integers(0, len(lengths) + 1, 12)]))
    edges_b = edges_a[kept]
    if len(np.unique(edges_b)) < 4:
        return
    nats_a, nats_b = np.diff(edges_a) * 0.7, np.diff(edges_b) * 0.7
    sums_a, sums_b, num_bytes = common_blocks(edges_a, nats_a, edges_b, nats_b, max_blocks)
    assert len(num_bytes) <= max_blocks
    assert sums_a == pytest.approx(0.7 * num_bytes)
    assert sums_b == pytest.approx(sums_a)
    assert num_bytes.sum() == edges_a[-1]


def test_only_what_both_have_scored_counts() -> None:
    edges_a, edges_b = edges_of([2, 2, 2, 2, 2]), edges_of([2, 2, 2], start=4)
    sums_a, sums_b, num_bytes = common_blocks(edges_a, np.arange(5.0), edges_b, np.ones(3))
    assert sums_a.tolist() == [2.0, 3.0, 4.0]
    assert sums_b.tolist() == [1.0, 1.0, 1.0]
    assert num_bytes.tolist() == [2.0, 2.0, 2.0]


def test_a_target_of_no_bytes_belongs_to_what_it_ends() -> None:
    edges_a, edges_b = edges_of([3, 0, 3, 3, 0]), edges_of([3, 3, 3])
    sums_a, _, _ = common_blocks(edges_a, [1.0, 0.5, 2.0, 4.0, 0.25], edges_b, np.zeros(3))
    assert sums_a.tolist() == [1.5, 2.0, 4.25]


def test_a_target_of_no_bytes_before_the_text_belongs_to_the_first_range() -> None:
    sums_a, _, _ = common_blocks(edges_of([0, 3, 3, 3]), [0.5, 1.0, 2.0, 4.0], edges_of([3, 3, 3]), np.zeros(3))
    assert sums_a.tolist() == [1.5, 2.0, 4.0]


def test_many_targets_become_blocks_of_about_equal_bytes() -> None:
    lengths = np.random.default_rng(0).integers(1, 9, 20_000).tolist()
    edges = edges_of(lengths)
    sums, _, num_bytes = common_blocks(edges, np.ones(20_000), edges, np.ones(20_000))
    assert len(sums) == 512
    assert sums.sum() == 20_000
    assert num_bytes.max() - num_bytes.min() <= 16


@pytest.mark.parametrize(
    ("edges_a", "edges_b", "message"),
    [
        ([0, 2, 4, 6], [0, 3, 5, 7], r"share 1 byte offsets, fewer than 4: keep the nll per target"),
        ([0, 2, 4], [0, 2, 4, 6], r"3 losses need as many byte ranges in text order, got 3 offsets"),
        ([0, 4, 2, 6], [0, 2, 4, 6], r"3 losses need as many byte ranges in text order, got 4 offsets"),
    ],
)
def test_texts_that_do_not_fit_are_refused(edges_a: list[int], edges_b: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        common_blocks(edges_a, np.ones(3), edges_b, np.ones(3))
