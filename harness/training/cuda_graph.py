"""A training step captured as a CUDA graph: one launch instead of hundreds, for each window length.

A step-bound recurrent model leaves the device waiting for the next launch. The graph replays the very kernels of
`harness.training.step.Step`, so the update is the same; what it cannot do is look at a number on the host, and no
step does.
Letters: T time, B stream.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.training.step import Step
from models.step import State

MAX_GRAPHS = 96
"""Lengths held at once: sampling around BPTT 150 and 75 gives about 60. Further ones run as they would without."""

WARM_UP_STEPS = 3
"""Plain steps before the first capture: libraries choose algorithms and allocate on their first calls."""


@dataclass(frozen=True, slots=True)
class Captured:
    """A graph with the memory it reads its window from."""

    graph: Any
    tokens_TB: Tensor


class GraphStep:
    """As `Step`, from fixed memory: the state lives in `state`, and lr in a tensor that the optimiser reads.

    A length runs plainly the first time it comes up, so that whatever is chosen per shape is chosen, and is captured
    the second time. All graphs share one pool, since only one runs at a time. The optimiser must be capturable, and
    lr a tensor. Masks change at each replay: the generator's state is registered with every graph.
    capture: how a callable becomes something with `replay()`; a test without a device gives its own.
    steps, replays and capture_s, seconds in which the device stood still for a capture, say how a measured time came
    about.
    """

    def __init__(
        self, step: Step, state: State, generator: torch.Generator, *, capture: Callable[..., Any] | None = None
    ) -> None:
        self.step, self.state, self.generator = step, state, generator
        self.captured: dict[int, Captured] = {}
        self.seen: set[int] = set()
        self.steps = self.replays = 0
        self.capture_s = 0.0
        self.capture = capture or CudaCapture(generator)

    def __call__(self, tokens_TB: Tensor) -> None:
        """Train on tokens (T + 1, B); `state` and the step's nll_sum hold the result."""
        length = tokens_TB.shape[0] - 1
        found = self.captured.get(length)
        if found is None and self.steps >= WARM_UP_STEPS and length in self.seen and len(self.captured) < MAX_GRAPHS:
            found = self._captured(tokens_TB)
        self.steps += 1
        self.seen.add(length)
        if found is None:
            self._run(tokens_TB)
            return
        found.tokens_TB.copy_(tokens_TB, non_blocking=True)
        found.graph.replay()
        self.replays += 1

    def load_state(self, state: State) -> None:
        """Put another state in place of the carried one: zeros at an epoch's start, what was saved on resuming."""
        copy_state(self.state, state)

    def _captured(self, tokens_TB: Tensor) -> Captured:
        fixed_TB = tokens_TB.clone()
        if tokens_TB.is_cuda:
            torch.cuda.synchronize(tokens_TB.device)
        started = time.perf_counter()
        captured = Captured(self.capture(lambda: self._run(fixed_TB)), fixed_TB)
        self.capture_s += time.perf_counter() - started
        self.captured[tokens_TB.shape[0] - 1] = captured
        return captured

    def _run(self, tokens_TB: Tensor) -> None:
        copy_state(self.state, self.step(tokens_TB, self.state))


class CudaCapture:
    """Captures on a stream of its own, into one pool, with the dropout generator's state advanced at each replay."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], None]) -> Any:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)  # type: ignore[attr-defined, unused-ignore]
        with torch.cuda.graph(graph, pool=self.pool):
            run()
        return graph


def copy_state(into: State, state: State) -> None:
    """Copy a state's values into another of the same nesting, in place."""
    if isinstance(into, Tensor):
        assert isinstance(state, Tensor)
        into.copy_(state)
        return
    for own, given in zip(into, state, strict=True):
        copy_state(own, given)
