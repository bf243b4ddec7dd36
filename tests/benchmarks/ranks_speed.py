"""Training by one process and by two, one thread each: `python tests/benchmarks/ranks_speed.py [ROUNDS [STEPS]]`.

Rounds of both alternate, so that a busy machine slows down both. Prints a line for each round and the median ratios.
CPU seconds of a rank include what it copies and adds for the gradients; they say what an idle machine would gain.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed as dist

import lm_models
from harness.core.config.recipe import Recipe
from harness.core.interfaces import Corpus
from harness.core.ranks import Ranks
from harness.training.progress import Hooks, Interrupted
from harness.training.trainer import Trainer
from lm_models.awd_lstm.config import Config as LstmConfig
from lm_models.config import Dropout
from lm_models.qrnn.config import Config as QrnnConfig

VOCAB = 50
SIZES: dict[str, Any] = {
    "layers": 2, "hidden": 512, "embedding": 256, "dropout": Dropout(input=0.1, hidden=0.25, output=0.1, weight=0.5),
}  # fmt: skip
CONFIGS = {"awd-lstm": LstmConfig(**SIZES), "qrnn": QrnnConfig(**SIZES)}
RECIPE = Recipe(optimizer="adam", lr=1e-3, batch=32, bptt=70, epochs=100, clip=0.25)
WARM_UP = 2


class Timed(Ranks):
    """Seconds and CPU seconds spent on gradients, and seconds on agreeing."""

    gradients_s = gradients_cpu_s = agreeing_s = 0.0

    def average_gradients(self, parameters: Any) -> None:
        started, cpu = time.perf_counter(), time.process_time()
        super().average_gradients(parameters)
        self.gradients_s += time.perf_counter() - started
        self.gradients_cpu_s += time.process_time() - cpu

    def any(self, *flags: bool) -> tuple[bool, ...]:
        started = time.perf_counter()
        answer = super().any(*flags)
        self.agreeing_s += time.perf_counter() - started
        return answer


class Loop:
    """A trainer that makes some steps at a time."""

    def __init__(self, builder: str, ranks: Ranks | None, folder: Path) -> None:
        torch.manual_seed(1)
        ids = np.random.default_rng(1).integers(0, VOCAB, 400_000).astype(np.uint16)
        splits = {"train": ids, "valid": ids[:1000], "test": ids[:1000]}
        self.trainer = Trainer(
            lm_models.build(builder, CONFIGS[builder], vocab_size=VOCAB, kernel="auto"),
            Corpus("random", "char", splits, [str(i) for i in range(VOCAB)], {}, {}, {}),
            RECIPE, seed=1, folder=folder, identity={"model": {}}, autocast=nullcontext, ranks=ranks,
            checkpoint_every_s=1e9, hooks=Hooks(stop=lambda: self.trainer.progress.step >= self.until),
        )  # fmt: skip
        # A checkpoint after each round is no part of training.
        self.trainer.save = lambda: None  # type: ignore[method-assign]
        self.until = 0

    def run(self, steps: int) -> tuple[float, float]:
        """Seconds and CPU seconds a step."""
        self.until = self.trainer.progress.step + steps
        started, cpu = time.perf_counter(), time.process_time()
        with suppress(Interrupted):
            self.trainer.fit()
        return (time.perf_counter() - started) / steps, (time.process_time() - cpu) / steps


def main() -> None:
    """Run rank 0 and rank 1; the arguments PORT and RANK are those of the second."""
    rounds, steps, port, rank = (int(text) for text in [*sys.argv[1:], *["5", "4", "0", "0"][len(sys.argv) - 1 :]])
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, is_master=rank == 0, wait_for_workers=False)
    if rank == 0:
        subprocess.Popen([sys.executable, __file__, str(rounds), str(steps), str(store.port), "1"])
    ranks = Timed(store, rank, 2)
    with tempfile.TemporaryDirectory() as folder:
        for builder in CONFIGS:
            compare(builder, ranks, Path(folder), rounds, steps)
    ranks.leave()


def compare(builder: str, ranks: Timed, folder: Path, rounds: int, steps: int) -> None:
    """Alternate rounds of one process and of two; rank 1 waits during those of one."""
    one, two = Loop(builder, None, folder), Loop(builder, ranks, folder)
    ratios = []
    for number in range(rounds + 1):
        count = steps if number else WARM_UP
        alone = one.run(count) if ranks.is_first else (0.0, 0.0)
        ranks.any(False)
        ranks.gradients_s = ranks.gradients_cpu_s = ranks.agreeing_s = 0.0
        shared = two.run(count)
        if number and ranks.is_first:
            ratios.append((alone[0] / shared[0], alone[1] / shared[1]))
            print(
                f"{builder}: one {alone[0]:.3f} s a step ({alone[1]:.3f} s CPU), two {shared[0]:.3f} s "
                f"({shared[1]:.3f} s CPU), of it gradients {ranks.gradients_s / count:.4f} s "
                f"({ranks.gradients_cpu_s / count:.4f} s CPU), agreeing {ranks.agreeing_s / count:.4f} s",
                flush=True,
            )
    if ranks.is_first:
        wall, cpu = (statistics.median(values) for values in zip(*ratios, strict=True))
        values = sum(parameter.numel() for parameter in two.trainer.parameters)
        print(
            f"{builder}: {values:,} values; two processes {wall:.2f} times as fast; by CPU time {cpu:.2f}", flush=True
        )


if __name__ == "__main__":
    main()
