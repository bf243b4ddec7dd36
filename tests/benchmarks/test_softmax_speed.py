"""A training step of the tied adaptive softmax and of the full one: seconds, and memory beyond the parameters.

Forward and backward over Zipf-distributed targets, each softmax in a child process. Memory is the peak resident size
minus the size before the first step, which includes parameters and inputs; the (V, E) gradient counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

WIKITEXT_103 = (267_735, 2_100, 400, [2_800, 20_000, 76_000])
CASES = [
    # name, (V, N, E, cutoffs)
    pytest.param("ptb-word", (10_000, 700, 400, [400, 3000]), id="ptb-word"),
    pytest.param("wikitext-103", WIKITEXT_103, id="wikitext-103", marks=pytest.mark.slow),
]

CHILD = """
import json, sys, time
import torch
from harness.bench.memory import peak_rss_bytes
from lm_models.adaptive_softmax import AdaptiveSoftmax
from lm_models.softmax import Softmax

vocab, rows, width, cutoffs, device = json.loads(sys.argv[1])
torch.manual_seed(1)
softmax = AdaptiveSoftmax(vocab, width, cutoffs) if cutoffs else Softmax(vocab, width, tied=True)
softmax = softmax.to(device)
words = torch.nn.Parameter(torch.empty(vocab, width, device=device).uniform_(-0.1, 0.1))
targets = torch.multinomial(1 / torch.arange(1, vocab + 1, dtype=torch.float64), rows, replacement=True)
h = torch.randn(rows, width, device=device, requires_grad=True)
split = softmax.split(targets) if cutoffs else None
targets = targets.to(device)

def peak():
    return torch.cuda.max_memory_allocated() if device == "cuda" else peak_rss_bytes()

held = torch.cuda.memory_allocated() if device == "cuda" else peak()
for line in sys.stdin:
    started = time.perf_counter()
    loss = softmax.nll(h, targets, words, split) if cutoffs else softmax.nll(h, targets, words)
    loss.mean().backward()
    for each in (h, words, *softmax.parameters()):
        each.grad = None
    if device == "cuda":
        torch.cuda.synchronize()
    print(json.dumps([time.perf_counter() - started, peak() - held]), flush=True)
"""


@contextmanager
def softmax_process(vocab: int, rows: int, width: int, cutoffs: list[int], device: str) -> Iterator[Any]:
    """A child process that runs one step per request and returns its seconds and the peak memory so far."""
    job = json.dumps([vocab, rows, width, cutoffs, device])
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", CHILD, job], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def step() -> tuple[float, int]:
            process.stdin.write("step\n")
            process.stdin.flush()
            seconds, num_bytes = json.loads(process.stdout.readline())
            return seconds, num_bytes

        yield step
        process.stdin.close()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "case"), CASES)
def test_adaptive_softmax(benchmark: Any, name: str, case: tuple[int, int, int, list[int]]) -> None:
    vocab, rows, width, cutoffs = case
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with (
        softmax_process(vocab, rows, width, cutoffs, device) as adaptive,
        softmax_process(vocab, rows, width, [], device) as full,
    ):
        ours: list[tuple[float, int]] = [adaptive()]
        theirs: list[tuple[float, int]] = [full()]
        benchmark.group = f"softmax {name} forward and backward"
        benchmark.pedantic(lambda: ours.append(adaptive()), setup=lambda: theirs.append(full()), rounds=3)
    ratios = sorted(full_s / ours_s for (ours_s, _), (full_s, _) in zip(ours[1:], theirs[1:], strict=True))
    benchmark.extra_info.update(
        times_faster=ratios[len(ratios) // 2],
        bytes_beyond_parameters=ours[-1][1],
        share_of_full_memory=ours[-1][1] / theirs[-1][1],
    )
    if vocab > 100_000:
        assert ratios[0] >= 4
        assert ours[-1][1] <= theirs[-1][1] / 4
