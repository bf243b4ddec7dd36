"""A training step captured as a CUDA graph: one launch per step instead of hundreds, one graph per window length.

A small recurrent model is launch-bound: the device waits for the host. The graph replays the same kernels as
`harness.training.step.Step`, so the update is the same. A captured step must not read a value on the host, and `Step`
reads none. Shape letters: T time, B stream.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from harness.training.step import Step
from lm_models.step import State

# Graphs held at once. Sampling around BPTT 150 and 75 gives about 60 lengths; further lengths run without a graph.
MAX_GRAPHS = 96

# Plain steps before the first capture: in them, libraries choose algorithms and allocate workspaces, which must not
# happen during a capture.
WARM_UP_STEPS = 3


class Graph(Protocol):
    """A captured sequence of kernels."""

    def replay(self) -> None:
        """Run the kernels again, on the memory they were captured with."""


Capture = Callable[[Callable[[], None]], Graph]


@dataclass(frozen=True, slots=True)
class CapturedStep:
    """A graph and the memory from which it reads its window, ids (T + 1, B)."""

    graph: Graph
    tokens_TB: Tensor


class GraphStep:
    """`Step` on fixed memory: the carried state stays in `state`, and lr in a tensor that the optimiser reads.

    A window length runs without a graph the first time, so that cuDNN and the kernels choose their algorithms for its
    shape, and is captured the second time. All graphs share one memory pool, because only one runs at a time. Dropout
    masks differ between replays: every graph registers the generator, whose offset each replay advances.

    `steps`, `replays` and `capture_s` (seconds spent capturing) let a caller correct a measured throughput.

    Args:
        step: the plain step; its optimiser must be capturable, with lr in a tensor.
        state: initial state; this object keeps it and overwrites its values.
        generator: the model's source of dropout masks.
        capture: turns a callable into something with `replay()`; replaced by a test without CUDA.
    """

    def __init__(self, step: Step, state: State, generator: torch.Generator, *, capture: Capture | None = None) -> None:
        self.step, self.state = step, state
        self.captured: dict[int, CapturedStep] = {}
        self.seen: set[int] = set()
        self.steps = self.replays = 0
        self.capture_s = 0.0
        self.capture = capture or CudaCapture(generator)

    def __call__(self, tokens_TB: Tensor) -> None:
        """Train on ids (T + 1, B); `state` and the step's `nll_sum` hold the result."""
        length = tokens_TB.shape[0] - 1
        # A graph has fixed shapes, so there is one per window length.
        captured = self.captured.get(length)
        if captured is None and self.steps >= WARM_UP_STEPS and length in self.seen and len(self.captured) < MAX_GRAPHS:
            captured = self._capture(tokens_TB)
        self.steps += 1
        self.seen.add(length)
        if captured is None:
            self._run(tokens_TB)
            return
        # A replay reads the addresses of the capture, so the window is copied there.
        captured.tokens_TB.copy_(tokens_TB, non_blocking=True)
        captured.graph.replay()
        self.replays += 1

    def load_state(self, state: State) -> None:
        """Overwrite the carried state: zeros at the start of an epoch, the saved state on resume."""
        copy_state(self.state, state)

    def _capture(self, tokens_TB: Tensor) -> CapturedStep:
        fixed_TB = tokens_TB.clone()
        if tokens_TB.is_cuda:
            # Steps still queued on the device are not part of the time of the capture.
            torch.cuda.synchronize(tokens_TB.device)
        started = time.perf_counter()
        captured = CapturedStep(self.capture(lambda: self._run(fixed_TB)), fixed_TB)
        self.capture_s += time.perf_counter() - started
        self.captured[tokens_TB.shape[0] - 1] = captured
        return captured

    def _run(self, tokens_TB: Tensor) -> None:
        copy_state(self.state, self.step(tokens_TB, self.state))


class CudaCapture:
    """Captures on a side stream into one shared pool; each replay advances the dropout generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], None]) -> Graph:
        """Capture the kernels that `run` launches; capturing runs none of them."""
        graph = torch.cuda.CUDAGraph()
        # Without this a replay would draw the masks of the capture again.
        graph.register_generator_state(self.generator)  # type: ignore[attr-defined, unused-ignore]
        with torch.cuda.graph(graph, pool=self.pool):
            run()
        return graph


def copy_state(target: State, source: State) -> None:
    """Copy a state into another of the same nesting, whose memory stays. Raises ValueError if the nesting differs."""
    if isinstance(target, Tensor):
        assert isinstance(source, Tensor)
        target.copy_(source)
        return
    for target_part, source_part in zip(target, source, strict=True):
        copy_state(target_part, source_part)
