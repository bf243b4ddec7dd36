"""Two processes that share a batch train and score as one does, up to the order in which sums are rounded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import torch
import two_ranks
from torch import distributed as dist
from two_ranks import PAIRS, QUICK, STOP_AT

from harness.checkpoints import format
from harness.core.ranks import Ranks
from harness.evaluation.blocks import Scored
from harness.system import processes
from harness.training.trainer import Trainer

TOLERANCE = {"float64": 1e-12, "float32": 1e-5}


class Done:
    """What two processes did, and what one does."""

    def __init__(self, folder: Path, ranks: Ranks, which: str) -> None:
        self.folder = folder
        two_ranks.train("awd-lstm, adam", "float64", folder / "1 to 2", None, stop_at=STOP_AT)
        self.trained, self.scores = two_ranks.share(folder, ranks, which)
        self.by_one = cache(lambda name, dtype: two_ranks.train(name, dtype, folder / f"one {name} {dtype}", None))


@contextmanager
def two_processes(folder: Path, which: str) -> Iterator[Done]:
    """This process is rank 0."""
    threads = torch.get_num_threads()
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment = processes.environment()
    helpers = str(Path(two_ranks.__file__).parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join([helpers, environment["PYTHONPATH"]])
    command = [sys.executable, two_ranks.__file__, str(store.port), str(folder), which]
    other = subprocess.Popen(command, env=environment)
    torch.set_num_threads(1)
    try:
        ranks = Ranks(store, 0, 2)
        yield Done(folder, ranks, which)
        ranks.leave()
        assert other.wait(60) == 0
    finally:
        torch.set_num_threads(threads)
        other.kill()
        other.wait()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    with two_processes(tmp_path_factory.mktemp("ranks"), "quick") as both:
        yield both


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All that a run leaves: weights, best weights, optimiser, carried state, generators."""
    index = format.read_index(folder / "resume")
    left = {
        f"{group} {name}": tensor
        for group in ("model", "optimizer", "state")
        for name, tensor in format.load_group(folder / "resume", index, group).items()
    }
    best = format.load_group(folder / "best", format.read_index(folder / "best"), "model")
    return left | {f"best {name}": tensor for name, tensor in best.items()}


def assert_equal(one: Trainer, two: Trainer, tolerance: float) -> None:
    ours, theirs = tensors(one.folder), tensors(two.folder)
    assert ours.keys() == theirs.keys()
    for name in ours:
        if "generator" in name:
            assert torch.equal(ours[name], theirs[name]), name
        torch.testing.assert_close(
            theirs[name], ours[name], rtol=tolerance, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert one.progress.step == two.progress.step >= 40
    assert len(one.progress.curve) == len(two.progress.curve) > 1
    for one_row, two_row in zip(one.progress.curve, two.progress.curve, strict=True):
        left, right = one_row.to_json(), two_row.to_json()
        for name in ("valid_nll_nats", "train_nll_nats"):
            assert left.pop(name) == pytest.approx(right.pop(name), rel=tolerance)
        times = ("train_seconds", "validation_seconds")
        assert {k: v for k, v in left.items() if k not in times} == {k: v for k, v in right.items() if k not in times}


def assert_trained_as_one(done: Done, name: str, dtype: str) -> None:
    two = done.trained[name, dtype]
    assert_equal(done.by_one(name, dtype), two, TOLERANCE[dtype])
    assert two.progress.process_counts == [2]
    if "averaged" in name:
        assert two.progress.averaging_step is not None
        assert two.progress.stage == "finetune"


@pytest.mark.parametrize(("name", "dtype"), QUICK)
def test_two_processes_train_as_one(done: Done, name: str, dtype: str) -> None:
    """With every dropout, both penalties, clipping and windows of random length."""
    assert_trained_as_one(done, name, dtype)


@pytest.mark.slow
def test_two_processes_train_every_model_as_one(tmp_path: Path) -> None:
    with two_processes(tmp_path, "rest") as both:
        for name, dtype in PAIRS["rest"]:
            assert_trained_as_one(both, name, dtype)


def test_a_run_of_one_process_continues_in_two(done: Done) -> None:
    one = done.by_one("awd-lstm, adam", "float64")
    index = format.read_index(done.folder / "1 to 2" / "resume")
    assert index.training["progress"]["process_counts"] == [1, 2]
    two = two_ranks.train("awd-lstm, adam", "float64", done.folder / "1 to 2", None)  # is at its end
    assert_equal(one, two, TOLERANCE["float64"])


def test_a_run_of_two_processes_continues_in_one(done: Done) -> None:
    one = two_ranks.train("qrnn, averaged", "float64", done.folder / "2 to 1", None)
    assert one.progress.process_counts == [2, 1]
    assert_equal(done.by_one("qrnn, averaged", "float64"), one, TOLERANCE["float64"])


def test_two_processes_score_as_one(done: Done) -> None:
    """Streams that do not divide equally, each target's loss, and a single stream, which both score."""
    for one, two in zip(two_ranks.scores(None), done.scores, strict=True):
        assert_same_score(one, two)


def assert_same_score(one: Scored, two: Scored) -> None:
    assert two.tally.nll_nats == pytest.approx(one.tally.nll_nats, rel=1e-13)
    assert (two.tally.num_targets, two.tally.num_units) == (one.tally.num_targets, one.tally.num_units)
    assert two.block_nll_nats == pytest.approx(one.block_nll_nats, rel=1e-13)
    assert (two.target_nll is None) == (one.target_nll is None)
    if one.target_nll is not None:
        assert two.target_nll == pytest.approx(one.target_nll, rel=1e-12)
