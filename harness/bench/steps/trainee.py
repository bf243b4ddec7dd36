"""One model trained step by step on request, in a process of its own, so that its peak memory is its own.

The parent writes lines of JSON to standard input: first the job, then "step" as often as it likes, then "end". Each is
answered by one line. The end of the pipe ends the process.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.bench.steps.entries import CHAIN, GEMMS, NN_LSTM, Entry

NUM_WINDOWS = 4
CLIP = 0.25


def main() -> int:
    """Entry of `python -m harness.bench.steps.trainee`. Returns 1 where the model could not be built or a step
    failed."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # whatever else prints goes to standard error

    def reply(message: Mapping[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")

    try:
        _serve(reply)
    except BrokenPipeError:
        return 0
    except Exception as error:  # told to the parent, which makes it the row's error
        reply({"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]})
        return 1
    return 0


def _serve(reply: Callable[[Mapping[str, Any]], None]) -> None:
    import torch

    from harness.checkpoints import model as kept
    from harness.timing import clocks

    kept.forbid_tf32()
    job = json.loads(sys.stdin.readline())
    entry = Entry(**job["entry"])
    if job["threads"]:
        torch.set_num_threads(job["threads"])
    step, facts = _gemms(entry, job["device"]) if job["participant"] == GEMMS else _training(entry, job)
    clock = clocks.clock_for(job["device"], launches=True)
    reply({"ready": True, "clock": f"{clock.name} in each process", **facts})
    for line in sys.stdin:
        if line.strip() == "end":
            reply({"peak_rss_bytes": peak_rss_bytes(), "peak_device_bytes": _peak_device_bytes(job["device"])})
            return
        loss, milliseconds = clock.time(lambda _: step(), None)
        reply({"ms": milliseconds, "loss": None if loss is None else float(loss)})


def _training(entry: Entry, job: Mapping[str, Any]) -> tuple[Callable[[], Any], dict[str, Any]]:
    model = build(entry, job["participant"], job["device"])
    return training_step(model, entry, job["device"]), {
        "num_parameters": sum(parameter.numel() for parameter in model.parameters())
    }


def _gemms(entry: Entry, device: str) -> tuple[Callable[[], Any], dict[str, Any]]:
    """The products of one step alone; they are the same whichever backend does the rest."""
    import kernels
    from harness.bench.steps import gemms

    kernels.KERNELS["lstm"][gemms.HOLLOW] = "harness.bench.steps.gemms:hollow_lstm"
    model = build(entry, gemms.HOLLOW if entry.op == "lstm" else "reference", device)
    products = gemms.record(training_step(model, entry, device))
    return gemms.replay(products, device), {"flops": sum(product.flops for product in products)}


def build(entry: Entry, participant: str, device: str) -> Any:
    """The entry's model with a backend of its op, the chain as its pooling, or torch's LSTM layers. Seeded."""
    import torch
    from pydantic import TypeAdapter

    import kernels
    import models
    from harness.bench.steps.plain_lstm import PlainLstm

    torch.manual_seed(1)
    config = TypeAdapter(models.config_class(entry.builder)).validate_python(dict(entry.model))
    if participant == NN_LSTM:
        model: Any = PlainLstm(config, vocab_size=entry.vocab_size)
    else:
        if participant == CHAIN:
            # In this process only: the chain is no backend anyone may choose.
            kernels.KERNELS["fo_pool"][CHAIN] = "kernels.fo_pool.chain:fo_pool"
        model = models.build(entry.builder, config, vocab_size=entry.vocab_size, kernel=participant)
    model = model.to(device)
    model.generator = torch.Generator(device).manual_seed(1)
    return model.train()


def training_step(model: Any, entry: Entry, device: str) -> Callable[[], Any]:
    """Return a function that does one whole step, as the training loop does, on the next window of random ids.

    It returns the mean nll per token in nats, a tensor.
    """
    import torch

    from harness.config.recipe import Recipe
    from harness.training.optimizers import make_optimizer
    from models.step import detach

    recipe = Recipe(optimizer="adam", lr=1e-3, batch=entry.batch, bptt=entry.bptt, epochs=1, clip=CLIP)
    parameters = list(model.parameters())
    optimizer = make_optimizer(recipe, parameters)
    draw = torch.Generator().manual_seed(2)
    shape = (NUM_WINDOWS, entry.bptt + 1, entry.batch)
    windows = torch.randint(entry.vocab_size, shape, generator=draw).to(device)
    state, done = model.initial_state(entry.batch), 0

    def step() -> Any:
        nonlocal state, done
        tokens_TB = windows[done % NUM_WINDOWS]
        out = model(tokens_TB[:-1], tokens_TB[1:], detach(state))
        loss = out.nll_TB.mean() + out.penalty
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        state, done = detach(out.state), done + 1
        return loss.detach()

    return step


def peak_rss_bytes() -> int:
    """Largest resident size of this process so far.

    On Linux from its own memory map: the figure of getrusage starts at the size of the process that started this one.
    """
    # Only Linux has the file; elsewhere the line is not found and getrusage has to do.
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _peak_device_bytes(device: str) -> int | None:
    import torch

    return torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else None


if __name__ == "__main__":
    sys.exit(main())
