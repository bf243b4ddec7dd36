"""Child process that trains one model step by step on request: `python -m harness.bench.steps.child`.

Lines of JSON: first a `StepJob`, answered by null once the model is built, then the requests of
`harness.bench.steps.entries`. The end of standard input ends the process.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

from harness.bench import memory, pipes
from harness.bench.steps.entries import (
    BFLOAT16,
    BFLOAT16_GEMMS,
    CHAIN,
    END,
    FLOAT32,
    GEMMS,
    NN_LSTM,
    StepEntry,
    StepJob,
)
from harness.core.messages import crash
from harness.system.processes import keep_freed_memory

NUM_WINDOWS = 4
CLIP = 0.25


def main() -> None:
    """Serve one job; a model that cannot be built or a step that fails is the last reply."""
    channel = pipes.open_reply_channel()
    keep_freed_memory()  # as the worker does

    def reply(message: object) -> None:
        channel.write(json.dumps(message) + "\n")

    try:
        serve(sys.stdin, reply)
    except BrokenPipeError:  # the parent has ended
        return
    except Exception as error:  # the parent writes it into the row
        reply(crash(error))


def serve(lines: Iterable[str], reply: Callable[[object], None]) -> None:
    """Read a job and requests from `lines` and answer each by one `reply`."""
    import torch

    from harness.checkpoints import model as checkpoint_model
    from harness.core.json_values import parse_json
    from harness.timing import clocks

    checkpoint_model.forbid_tf32()
    requests = iter(lines)
    job = parse_json(StepJob, next(requests))
    if job.threads:
        torch.set_num_threads(job.threads)
    if job.participant in (GEMMS, BFLOAT16_GEMMS):
        step = products_alone(job.entry, job.device, bfloat16=job.participant == BFLOAT16_GEMMS)
    else:
        model = build(job.entry, job.participant, job.device)
        step = training_step(model, job.entry, job.device, bfloat16=job.participant == BFLOAT16)
    clock = clocks.clock_for(job.device, launches=True)
    reply(None)
    for line in requests:
        if line.strip() == END:
            reply([memory.peak_rss_bytes(), memory.peak_device_bytes(job.device)])
            return
        loss, milliseconds = clock.time(lambda _: step(), None)
        reply([milliseconds, None if loss is None else float(loss)])


def products_alone(entry: StepEntry, device: str, *, bfloat16: bool = False) -> Callable[[], None]:
    """Return a function that computes the matrix products of one step, which are the same for every backend.

    Args:
        entry: the model and its window.
        device: where they run.
        bfloat16: in that dtype instead of float32; operands are rounded beforehand.
    """
    import torch

    import lm_kernels
    from harness.bench.steps import products

    lm_kernels.KERNELS["lstm"][products.PLACEHOLDER] = "harness.bench.steps.products:placeholder_lstm"
    model = build(entry, products.PLACEHOLDER if entry.op == "lstm" else "reference", device)
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    return products.replay(products.record(training_step(model, entry, device)), device, dtype)


def build(entry: StepEntry, participant: str, device: str) -> Any:
    """Build the entry's model, seeded and in training mode.

    Args:
        entry: the model and its vocabulary.
        participant: a backend of the entry's op, CHAIN, NN_LSTM, or a dtype, which runs the backend `auto`.
        device: where the model goes.
    """
    import torch
    from pydantic import TypeAdapter

    import lm_kernels
    import lm_models
    from harness.bench.steps.plain_lstm import PlainLstm

    torch.manual_seed(1)
    config = TypeAdapter(lm_models.config_class(entry.builder)).validate_python(dict(entry.model))
    if participant == NN_LSTM:
        model: Any = PlainLstm(config, vocab_size=entry.vocab_size)
    else:
        if participant == CHAIN:
            # Registered in this process only: users cannot choose the chain as a backend.
            lm_kernels.KERNELS["fo_pool"][CHAIN] = "lm_kernels.fo_pool.chain:fo_pool"
        kernel = "auto" if participant in (FLOAT32, BFLOAT16) else participant
        model = lm_models.build(entry.builder, config, vocab_size=entry.vocab_size, kernel=kernel)
    model = model.to(device)
    model.generator = torch.Generator(device).manual_seed(1)
    return model.train()


def training_step(model: Any, entry: StepEntry, device: str, *, bfloat16: bool = False) -> Callable[[], Any]:
    """Return a function that runs one training step (forward, backward, clip, Adam) on the next window.

    Args:
        model: from `build`.
        entry: batch, BPTT and vocabulary; windows are random ids.
        device: where the model is.
        bfloat16: run the forward pass under autocast, as a run does with `dtype: bfloat16`.

    Returns:
        A function that returns the mean nll in nats per token, a tensor without dimensions.
    """
    import torch

    from harness.core.config.recipe import Recipe
    from harness.training.optimizers import make_optimizer
    from lm_models.step import detach

    recipe = Recipe(optimizer="adam", lr=1e-3, batch=entry.batch, bptt=entry.bptt, epochs=1, clip=CLIP)
    parameters = list(model.parameters())
    optimizer = make_optimizer(recipe, parameters)
    generator = torch.Generator().manual_seed(2)
    shape = (NUM_WINDOWS, entry.bptt + 1, entry.batch)
    windows = torch.randint(entry.vocab_size, shape, generator=generator).to(device)
    state, num_steps = model.initial_state(entry.batch), 0

    def step() -> Any:
        nonlocal state, num_steps
        tokens_TB = windows[num_steps % NUM_WINDOWS]
        with torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=bfloat16):
            out = model(tokens_TB[:-1], tokens_TB[1:], detach(state))
            loss = out.nll_TB.mean() + out.penalty
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        state, num_steps = detach(out.state), num_steps + 1
        return loss.detach()

    return step


if __name__ == "__main__":
    main()
