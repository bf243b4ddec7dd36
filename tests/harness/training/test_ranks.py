"""Two processes that share a batch train as one does, up to the order in which sums are rounded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import two_ranks
from torch import distributed as dist
from two_ranks import DTYPES, STOP_AT, TRAININGS

from harness.checkpoints import format
from harness.core.ranks import Ranks
from harness.evaluation.blocks import Scored
from harness.system import processes
from harness.training.trainer import Trainer

TOLERANCE = {"float64": 1e-12, "float32": 1e-5}


class Done:
    """What two processes did."""

    def __init__(self, folder: Path, ranks: Ranks) -> None:
        two_ranks.train("awd-lstm, adam", "float64", folder / "1 to 2", None, stop_at=STOP_AT)
        self.folder = folder
        self.trained, self.scores = two_ranks.share(folder, ranks)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    """This process is rank 0."""
    folder, threads = tmp_path_factory.mktemp("ranks"), torch.get_num_threads()
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment = processes.environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(two_ranks.__file__).parent.parent), environment["PYTHONPATH"]])
    other = subprocess.Popen([sys.executable, two_ranks.__file__, str(store.port), str(folder)], env=environment)
    torch.set_num_threads(1)
    try:
        ranks = Ranks(store, 0, 2)
        yield Done(folder, ranks)
        ranks.leave()
        assert other.wait(60) == 0
    finally:
        torch.set_num_threads(threads)
        other.kill()
        other.wait()


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Weights, best weights, optimiser, carried state, generators: all that a run leaves."""
    index = format.read_index(folder / "resume")
    found = {
        f"{group} {name}": tensor
        for group in ("model", "optimizer", "state")
        for name, tensor in format.load_group(folder / "resume", index, group).items()
    }
    best = format.load_group(folder / "best", format.read_index(folder / "best"), "model")
    return found | {f"best {name}": tensor for name, tensor in best.items()}


def assert_equal(ours: Trainer, theirs: Trainer, tolerance: float) -> None:
    one, two = tensors(ours.folder), tensors(theirs.folder)
    assert one.keys() == two.keys()
    worst = {name: float((one[name].double() - two[name].double()).abs().max()) for name in one}
    print(max(worst.values()), max(worst, key=lambda n: worst[n]))
    assert max(worst.values()) < tolerance, sorted(worst.items(), key=lambda item: -item[1])[:5]
    assert ours.progress.step == theirs.progress.step
    assert len(ours.progress.curve) == len(theirs.progress.curve) > 1
    for one_row, two_row in zip(ours.progress.curve, theirs.progress.curve, strict=True):
        left, right = one_row.to_json(), two_row.to_json()
        assert left.pop("valid_nll_nats") == pytest.approx(right.pop("valid_nll_nats"), rel=tolerance)
        assert left.pop("train_nll_nats") == pytest.approx(right.pop("train_nll_nats"), rel=tolerance)
        times = ("train_seconds", "validation_seconds")
        assert {k: v for k, v in left.items() if k not in times} == {k: v for k, v in right.items() if k not in times}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_train_as_one(done: Done, tmp_path: Path, name: str, dtype: str) -> None:
    """With every dropout, both penalties, clipping and windows of random length."""
    theirs = done.trained[name, dtype]
    ours = two_ranks.train(name, dtype, tmp_path, None)
    assert ours.progress.step >= 50
    assert_equal(ours, theirs, TOLERANCE[dtype])
    assert theirs.progress.process_counts == [2]
    if "averaged" in name:
        assert theirs.progress.averaging_step is not None or theirs.progress.stage == "finetune"
