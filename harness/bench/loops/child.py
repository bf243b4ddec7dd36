"""Child process that times the training loop of a full-size model: `python -m harness.bench.loops.child`.

One line of JSON in, a LoopJob; one line out, a LoopResult.
"""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.bench import memory, pipes
from harness.bench.loops.entries import LoopEntry, LoopJob, LoopResult
from harness.core.messages import crash
from harness.system.processes import keep_freed_memory

if TYPE_CHECKING:
    from harness.core.interfaces import Corpus
    from harness.training.progress import Hooks
    from harness.training.throughput import Throughput
    from harness.training.trainer import Trainer

VALID_TOKENS = 64

# Windows in an epoch, about as many as in Penn Treebank: the shorter last window of an epoch must stay as rare.
MIN_WINDOWS = 256

# Window lengths are rounded to this if each length is captured as a CUDA graph: a dozen lengths instead of sixty.
GRAPH_MULTIPLE = 8

# Largest share of timed steps that may run without a graph: lengths too rare to be captured.
MAX_NOT_REPLAYED = 0.1


def main() -> None:
    """Time one loop. Failures are part of the result."""
    from harness.core.json_values import parse_json

    channel = pipes.open_reply_channel()
    keep_freed_memory()  # as the worker does
    try:
        result = time_loop(parse_json(LoopJob, sys.stdin.readline()))
    except Exception as error:  # the parent writes it into the row
        result = LoopResult(error=crash(error))
    channel.write(json.dumps(asdict(result)) + "\n")


def time_loop(job: LoopJob) -> LoopResult:
    """Build the model and train it for about `job.seconds` after a warm-up."""
    import torch
    from pydantic import TypeAdapter

    import lm_models
    from harness.checkpoints import model as checkpoint_model
    from harness.core.config.recipe import Recipe, WindowSampling
    from harness.core.config.speed import unverified
    from harness.training import throughput
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

    made: list[Trainer] = []

    def make_trainer(hooks: Hooks) -> Trainer:
        trainer = Trainer(
            model, corpus, recipe, seed=1, folder=Path(folder), identity={"model": entry.name}, autocast=autocast,
            speed=job.speed, loss_scale=job.dtype == "float16", checkpoint_every_s=float("inf"), hooks=hooks,
        )  # fmt: skip
        made.append(trainer)
        return trainer

    with tempfile.TemporaryDirectory() as folder:
        speed = throughput.measure(make_trainer, job.seconds, lambda: False)
    [trainer] = made
    kernels = dict(getattr(model, "kernels", {}))
    return replace(
        rates(speed),
        peak_rss_bytes=memory.peak_rss_bytes(),
        peak_device_bytes=memory.peak_device_bytes(device),
        peak_device_reserved_bytes=torch.cuda.max_memory_reserved(device) if device.startswith("cuda") else None,
        unverified=unverified(trainer.speed, kernels, job.dtype, device),
    )


def rates(speed: Throughput) -> LoopResult:
    """The rate of a finished loop; none, but an error, if too many steps ran without the graph that was asked for."""
    # The rate of a mixture would describe neither.
    if speed.not_replayed > MAX_NOT_REPLAYED * speed.steps:
        reason = f"{speed.not_replayed} of {speed.steps} timed steps were not replayed by a graph"
        return LoopResult(error=reason, steps=speed.steps)
    step_ms = speed.seconds / speed.steps * 1e3
    return LoopResult(error=None, tokens_per_s=speed.tokens_per_s, steps=speed.steps, step_ms=step_ms)


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
    main()
