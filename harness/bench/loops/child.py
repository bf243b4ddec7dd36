"""Child process that times the training loop of a full-size model: `python -m harness.bench.loops.child`.

One line of JSON in, a LoopJob; one line out, a LoopResult.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.bench import memory, pipes
from harness.bench.loops.messages import LoopJob, LoopResult

if TYPE_CHECKING:
    from harness.bench.loops.entries import LoopEntry
    from harness.core.interfaces import Corpus
    from harness.training.throughput import Throughput
    from harness.training.trainer import Trainer

VALID_TOKENS = 64

# Windows in an epoch, about as many as in Penn Treebank: the shorter last window of an epoch must stay as rare.
MIN_WINDOWS = 256

# Window lengths are rounded to this if each length is captured as a CUDA graph: a dozen lengths instead of sixty.
GRAPH_MULTIPLE = 8

# Largest share of timed steps that may run without a graph: lengths too rare to be captured.
MAX_NOT_REPLAYED = 0.1

# Steps whose mean loss is reported. Captured graphs and tuned kernels run in them, and the seed is the same for all
# variants, so a variant whose loss differs trains wrongly.
LOSS_STEPS = (30, 90)


def main() -> int:
    """Time one loop. Failures are part of the result; the exit status is 0."""
    channel = pipes.open_reply_channel()
    job = pipes.decode(LoopJob, sys.stdin.readline())
    try:
        result = time_loop(job)
    except Exception as error:  # the parent writes it into the row
        result = LoopResult(error=pipes.failure(error).error)
    channel.write(pipes.encode(result))
    channel.close()
    return 0


def time_loop(job: LoopJob) -> LoopResult:
    """Build the model and train it for about `job.seconds` after a warm-up."""
    import torch
    from pydantic import TypeAdapter

    import lm_models
    from harness.checkpoints import model as checkpoint_model
    from harness.config.recipe import Recipe, WindowSampling
    from harness.training import throughput
    from harness.training.progress import Hooks
    from harness.training.trainer import Trainer

    entry, device = job.entry, job.device
    if job.threads:
        torch.set_num_threads(job.threads)
    checkpoint_model.forbid_tf32()
    torch.manual_seed(1)
    config = TypeAdapter(lm_models.config_class(entry.builder)).validate_python(dict(entry.model))
    model: Any = lm_models.build(entry.builder, config, vocab_size=entry.vocab_size, kernel=job.kernel).to(device)
    recipe = Recipe(
        optimizer="adam", lr=entry.lr, batch=entry.batch, bptt=entry.bptt, epochs=1_000_000, clip=0.25,
        weight_decay=entry.weight_decay, windows=WindowSampling(multiple=GRAPH_MULTIPLE if job.speed.graph else 1),
    )  # fmt: skip
    corpus = random_corpus(entry)

    def autocast() -> Any:
        if job.dtype == "float32":
            return nullcontext()
        return torch.autocast(device.split(":")[0], dtype=getattr(torch, job.dtype))

    loss = EarlyLoss()

    def make_trainer(hooks: Hooks) -> Trainer:
        loss.trainer = Trainer(
            model, corpus, recipe, seed=1, folder=Path(folder), identity={"model": entry.name}, autocast=autocast,
            speed=job.speed, loss_scale=job.dtype == "float16", checkpoint_every_s=float("inf"), hooks=hooks,
        )  # fmt: skip
        return loss.trainer

    with tempfile.TemporaryDirectory() as folder:
        speed = throughput.measure(make_trainer, job.seconds, loss)
    return to_result(speed, loss, job)


def to_result(speed: Throughput, loss: EarlyLoss, job: LoopJob) -> LoopResult:
    """Describe a finished loop.

    Args:
        speed: measured tokens per second.
        loss: the loss of the first steps, and the trainer.
        job: device and dtype.

    Returns:
        The result; without a rate if too many steps ran without the graph that was asked for, because the rate of a
        mixture would describe neither.
    """
    import torch

    from harness.config.speed import unverified

    trainer, on_cuda = loss.trainer, job.device.startswith("cuda")
    assert trainer is not None
    kernels = dict(getattr(trainer.model, "kernels", {}))
    valid = speed.not_replayed <= MAX_NOT_REPLAYED * speed.steps
    return LoopResult(
        error=None if valid else f"{speed.not_replayed} of {speed.steps} timed steps were not replayed by a graph",
        tokens_per_s=speed.tokens_per_s if valid else None,
        steps=speed.steps,
        step_ms=speed.seconds / speed.steps * 1e3 if valid else None,
        nll_per_token=loss.nll_per_token,
        window_multiple=trainer.recipe.windows.multiple if trainer.recipe.windows else None,
        num_parameters=sum(parameter.numel() for parameter in trainer.module.parameters()),
        kernels=kernels,
        peak_rss_bytes=memory.peak_rss_bytes(),
        peak_device_bytes=memory.peak_device_bytes(job.device),
        peak_device_reserved_bytes=torch.cuda.max_memory_reserved(job.device) if on_cuda else None,
        unverified=unverified(trainer.speed, kernels, job.dtype, job.device),
    )


class EarlyLoss:
    """Called after every step: records the mean nll in nats per token over LOSS_STEPS, None if they were not reached.

    Reading the sum waits for the device, twice in all.
    """

    def __init__(self) -> None:
        self.trainer: Trainer | None = None
        self.nll_per_token: float | None = None
        self._start: tuple[float, int] | None = None

    def __call__(self) -> bool:
        """Never requests a stop."""
        assert self.trainer is not None
        progress = self.trainer.progress
        if progress.step == LOSS_STEPS[0] and self._start is None:
            self._start = (float(self.trainer.nll_sum), progress.tokens_since_validation)
        if progress.step == LOSS_STEPS[1] and self._start is not None and self.nll_per_token is None:
            nll, tokens = self._start
            self.nll_per_token = (float(self.trainer.nll_sum) - nll) / (progress.tokens_since_validation - tokens)
        return False


def random_corpus(entry: LoopEntry) -> Corpus:
    """Independent, seeded tokens drawn by Zipf's law, enough for MIN_WINDOWS windows."""
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
        vocabulary=range(entry.vocab_size),  # type: ignore[arg-type]  # only its length is read
        num_units={},
        limits={},
        manifest={},
    )


if __name__ == "__main__":
    sys.exit(main())
