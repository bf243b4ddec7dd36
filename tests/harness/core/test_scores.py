from __future__ import annotations

import pytest
from record_factory import score


def test_units_of_blocks_are_shares_of_the_count_and_the_last_block_is_shorter() -> None:
    assert score(1.5, targets=1000).block_units(500) == pytest.approx((128, 128, 128, 116))


@pytest.mark.parametrize(("blocks", "enough"), [(7, False), (8, True)])
def test_an_interval_needs_eight_blocks(blocks: int, enough: bool) -> None:
    assert score(1.5, targets=256 * blocks).has_blocks() is enough
