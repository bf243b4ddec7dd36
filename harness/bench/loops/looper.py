"""The training loop of a full-size model over random tokens, in a process of its own: `python -m
harness.bench.loops.looper`.

One line of JSON in, one out: what `harness.bench.loops.loops` asks, and what it makes a row of.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.training.throughput import Throughput
    from harness.training.trainer import Trainer

VALID_TOKENS = 64
MIN_WINDOWS = 256
"""Windows in an epoch of random tokens, as Penn Treebank has: an epoch's last, which is cut short, is as rare."""

GRAPH_MULTIPLE = 8
"""What window lengths are rounded to where each length is captured: a dozen of them in place of sixty."""

MOST_NOT_REPLAYED = 0.1
"""Share of the timed steps that may run without the graph they are to be judged by: lengths that seldom come up do."""

LOSS_STEPS = (30, 90)
"""The first steps whose mean loss is told: captures and chosen kernels are at work in them, the seed is one for all."""


def main() -> int:
    """Answers with `error` where the loop could not be built or run; the exit status is 0 all the same."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    job = json.loads(sys.stdin.readline())
    try:
        answer = _time(job)
    except Exception as error:  # told to the parent, which makes it the row's error
        answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]}
    channel.write(json.dumps(answer) + "\n")
    channel.close()
    return 0


def _time(job: dict[str, Any]) -> dict[str, Any]:
    import torch
    from pydantic import TypeAdapter

    import models
    from harness.bench.loops.full_size import FullSize
    from harness.checkpoints import model as kept
    from harness.config.recipe import Recipe, WindowSampling
    from harness.config.speed import Speed, applied
    from harness.training import throughput
    from harness.training.progress import Hooks
    from harness.training.trainer import Trainer

    entry, device, dtype = FullSize(**job["entry"]), job["device"], job["dtype"]
    if job["threads"]:
        torch.set_num_threads(job["threads"])
    kept.forbid_tf32()
    torch.manual_seed(1)
    config = TypeAdapter(models.config_class(entry.builder)).validate_python(dict(entry.model))
    model: Any = models.build(entry.builder, config, vocab_size=entry.vocab_size, kernel=job["kernel"]).to(device)
    speed: Speed = applied(Speed(**job["speed"]), device)
    multiple = GRAPH_MULTIPLE if speed.graph else 1
    recipe = Recipe(
        optimizer="adam", lr=entry.lr, batch=entry.batch, bptt=entry.bptt, epochs=1_000_000, clip=0.25,
        weight_decay=entry.weight_decay, windows=WindowSampling(multiple=multiple),
    )  # fmt: skip
    corpus = random_corpus(entry)

    def autocast() -> Any:
        if dtype == "float32":
            return nullcontext()
        return torch.autocast(device.split(":")[0], dtype=getattr(torch, dtype))

    loss = EarlyLoss()

    def make_trainer(hooks: Hooks) -> Trainer:
        loss.trainer = Trainer(
            model, corpus, recipe, seed=1, folder=Path(folder), identity={"model": entry.name}, autocast=autocast,
            speed=speed, loss_scale=dtype == "float16", checkpoint_every_s=float("inf"), hooks=hooks,
        )  # fmt: skip
        return loss.trainer

    with tempfile.TemporaryDirectory() as folder:
        found = throughput.measure(make_trainer, job["seconds"], loss)
    return _answer(found, loss, device, dtype)


def _answer(found: Throughput, loss: EarlyLoss, device: str, dtype: str) -> dict[str, Any]:
    import torch

    from harness.bench.steps.trainee import peak_rss_bytes
    from harness.config.speed import unverified

    trainer, on_cuda = loss.trainer, device.startswith("cuda")
    assert trainer is not None
    kernels = dict(getattr(trainer.model, "kernels", {}))
    settled = found.not_replayed <= MOST_NOT_REPLAYED * found.steps
    return {
        "tokens_per_s": found.tokens_per_s if settled else None,
        "error": None if settled else f"{found.not_replayed} of {found.steps} timed steps were not replayed by a graph",
        "steps": found.steps,
        "step_ms": found.seconds / found.steps * 1e3 if settled else None,
        "nll_per_token": loss.nll_per_token,
        "window_multiple": trainer.recipe.windows.multiple if trainer.recipe.windows else None,
        "num_parameters": sum(parameter.numel() for parameter in trainer.module.parameters()),
        "kernels": kernels,
        "peak_rss_bytes": peak_rss_bytes(),
        "peak_device_bytes": torch.cuda.max_memory_allocated(device) if on_cuda else None,
        "peak_device_reserved_bytes": torch.cuda.max_memory_reserved(device) if on_cuda else None,
        "unverified": unverified(trainer.speed, kernels, dtype, device),
    }


class EarlyLoss:
    """Asked after every step: the mean nll in nats per token of the steps in LOSS_STEPS, None where they were not made.

    Ways to compute one step begin with the same weights over the same text, so that one whose loss stands apart trains
    wrongly. Reading it waits for the device, twice.
    """

    def __init__(self) -> None:
        self.trainer: Trainer | None = None
        self.nll_per_token: float | None = None
        self._from: tuple[float, int] | None = None

    def __call__(self) -> bool:
        """Never asks for a stop."""
        assert self.trainer is not None
        progress = self.trainer.progress
        if progress.step == LOSS_STEPS[0] and self._from is None:
            self._from = (float(self.trainer.nll_sum), progress.tokens_since_validation)
        if progress.step == LOSS_STEPS[1] and self._from is not None and self.nll_per_token is None:
            nll, tokens = self._from
            self.nll_per_token = (float(self.trainer.nll_sum) - nll) / (progress.tokens_since_validation - tokens)
        return False


def random_corpus(entry: Any) -> Any:
    """Independent tokens by Zipf's law, enough for MIN_WINDOWS windows, seeded."""
    import numpy as np

    from harness.core.interfaces import Corpus

    rng = np.random.default_rng(2)
    weights = np.arange(1, entry.vocab_size + 1, dtype=np.float64) ** -entry.zipf
    edges = np.cumsum(weights / weights.sum())
    num_train = entry.batch * (entry.bptt * MIN_WINDOWS + 1)
    ids = np.searchsorted(edges, rng.random(num_train + VALID_TOKENS)).clip(max=entry.vocab_size - 1).astype(np.int32)
    return Corpus(
        name=entry.name,
        unit="token",
        splits={"train": ids[:num_train], "valid": ids[num_train:]},
        vocabulary=range(entry.vocab_size),  # type: ignore[arg-type]  # its length is all that is asked for
        num_units={},
        limits={},
        manifest={},
    )


if __name__ == "__main__":
    sys.exit(main())
