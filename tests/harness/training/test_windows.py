"""Streams and windows, compared with the official code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from window_walk import window_lengths

from harness.core.config.recipe import WindowSampling
from harness.core.errors import DataError
from harness.evaluation.streams import to_streams
from harness.training.windows import next_window


@given(st.integers(2, 300), st.integers(1, 20))
def test_streams_are_the_official_batchify(num_tokens: int, num_streams: int) -> None:
    ids = np.arange(num_tokens, dtype=np.uint16)
    rows = num_tokens // num_streams
    if rows < 2:
        with pytest.raises(DataError, match="too few"):
            to_streams(ids, num_streams)
        return
    ids_TB, num_dropped = to_streams(ids, num_streams)
    assert num_dropped == num_tokens - rows * num_streams
    assert ids_TB.T.tolist() == [list(range(stream * rows, (stream + 1) * rows)) for stream in range(num_streams)]


def test_streams_copy_nothing(tmp_path: Path) -> None:
    np.arange(100, dtype=np.uint8).tofile(tmp_path / "ids")
    ids = np.memmap(tmp_path / "ids", dtype=np.uint8, mode="r")
    ids_TB, _ = to_streams(ids, 7)
    assert np.shares_memory(ids_TB, ids)
    with pytest.raises(ValueError, match="at least 1"):
        to_streams(ids, 0)


def official_windows(num_rows: int, bptt: int, rng: np.random.Generator) -> list[tuple[int, int, float]]:
    """main.py of awd-lstm-lm, with its own constants."""
    windows = []
    i = 0
    while i < num_rows - 1 - 1:
        base = bptt if rng.random() < 0.95 else bptt / 2.0
        seq_len = max(5, int(rng.normal(base, 5)))
        windows.append((i, min(seq_len, num_rows - 1 - i), seq_len / bptt))
        i += seq_len
    return windows


@given(st.integers(2, 3000), st.integers(1, 200), st.integers(0, 2**32))
def test_sampled_windows_are_the_official_ones(num_rows: int, bptt: int, seed: int) -> None:
    ours = list(window_lengths(num_rows, bptt, WindowSampling(), np.random.default_rng(seed)))
    assert ours == official_windows(num_rows, bptt, np.random.default_rng(seed))


@given(st.integers(2, 500), st.integers(1, 600))
def test_fixed_windows_cover_every_target_once(num_rows: int, bptt: int) -> None:
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    windows = list(window_lengths(num_rows, bptt, None, rng))
    assert rng.bit_generator.state == before
    targets = [row + step + 1 for row, length, _ in windows for step in range(length)]
    assert targets == list(range(1, num_rows))
    assert all(length == bptt for _, length, _ in windows[:-1])
    assert all(factor == 1 for *_, factor in windows)


def test_the_factor_is_of_the_uncut_length_and_can_be_switched_off() -> None:
    (window,) = window_lengths(4, 100, WindowSampling(half_probability=0, std=0), np.random.default_rng(0))
    assert window == (0, 3, 1.0)
    rng = np.random.default_rng(0)
    assert {factor for *_, factor in window_lengths(900, 100, WindowSampling(scale_lr=False), rng)} == {1.0}


@pytest.mark.parametrize("row", [-1, 9, 10])
def test_no_window_without_a_target(row: int) -> None:
    with pytest.raises(ValueError, match="has no target"):
        next_window(row, 10, 5, None, np.random.default_rng(0))


def test_lengths_are_rounded_to_multiples_and_their_mean_stays() -> None:
    fine, coarse = WindowSampling(minimum=1), WindowSampling(minimum=1, multiple=10)
    rng = np.random.Generator(np.random.PCG64(0))
    drawn = {
        sampling: np.array([next_window(0, 10**6, 150, sampling, rng)[0] for _ in range(20_000)])
        for sampling in (fine, coarse)
    }
    assert set(drawn[coarse] % 10) == {0}
    error = np.hypot(*(lengths.std() / len(lengths) ** 0.5 for lengths in drawn.values()))
    assert abs(drawn[coarse].mean() - drawn[fine].mean()) < 4 * error
    assert len(set(drawn[coarse])) < 20 < len(set(drawn[fine]))
