"""The processes of one run: which columns of a batch belong to this one, and sums over all of them.

Each process (rank) trains on its own columns of the batch with the same weights, and every collective operation here is
called by all ranks in the same order. Only imported by runs over several processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

from harness.core.errors import HarnessError

if TYPE_CHECKING:
    from lm_models.step import State

# For an exchange. `harness.core.pulse` notices a rank that does not answer long before, and one that ends is noticed at
# once. Longer than the slowest thing that rank 0 does alone: writing a checkpoint.
TIMEOUT = timedelta(minutes=30)

# Rank 0 scores for hours alone where a protocol has one stream.
LONGEST_WAIT = timedelta(days=365)

# After a collective operation failed, the process that watches the lost one has this long to say which and why.
LOST_GRACE_S = 10.0


class Ranks:
    """This process among those of the run.

    Args:
        store: of torch.distributed, through which the ranks find each other.
        rank: number of this process, from 0; rank 0 writes all files.
        size: number of processes.
    """

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.store = store
        # Odd while an exchange lasts.
        self.num_turns = 0
        self._num_announced = 0
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def columns(self, batch: int) -> slice:
        """The columns of a batch that this rank trains on. Raises ValueError if the ranks' shares are not equal."""
        if batch % self.size:
            raise ValueError(f"a batch of {batch} streams cannot be divided equally among {self.size} processes")
        share = batch // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def streams(self, num_streams: int) -> slice:
        """The streams that this rank scores; shares differ by one at most."""
        return slice(self.rank * num_streams // self.size, (self.rank + 1) * num_streams // self.size)

    def average_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace each gradient by its mean over the ranks: that of the mean loss over the whole batch."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        # One message for all of them: the matrices of a recurrent model are few and small for a network.
        joined = torch.cat([gradient.flatten() for gradient in gradients])
        self._all_reduce(joined)
        joined.div_(self.size)
        parts = joined.split([gradient.numel() for gradient in gradients])
        torch._foreach_copy_(gradients, [part.view_as(to) for part, to in zip(parts, gradients, strict=True)])

    def total(self, value: Tensor) -> float:
        """Sum of a number on the device over the ranks."""
        summed = value.clone()
        self._all_reduce(summed)
        return float(summed)

    def add_up(self, values: np.ndarray) -> None:
        """Replace an array, float64, by its sum over the ranks."""
        self._all_reduce(torch.from_numpy(values))

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Whether each flag is set on any rank."""
        # On the host, so that nothing waits for the device.
        counts = torch.tensor(flags, dtype=torch.int64)
        self._all_reduce(counts)
        return tuple(bool(count) for count in counts)

    def of_first(self, value: float) -> float:
        """Rank 0's value. Ranks that decide by it decide alike, even if their own differs in its last bits."""
        shared = torch.tensor(value if self.is_first else 0.0, dtype=torch.float64)
        self._all_reduce(shared)
        return float(shared)

    def gather(self, state: State) -> State:
        """The state of the whole batch, from that of every rank's columns."""
        if not isinstance(state, Tensor):
            return tuple(self.gather(part) for part in state)
        mine = state.contiguous()
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        self._run(lambda: dist.all_gather(parts, mine))
        return torch.cat(parts, dim=-2)

    def announce(self, text: str) -> None:
        """Tell the other ranks what comes next; they may have waited for it in `next_announced` for long."""
        self.store.set(f"next/{self._num_announced}", text)
        self._num_announced += 1

    def next_announced(self) -> str:
        """The next text that rank 0 announces."""
        name = f"next/{self._num_announced}"
        self._num_announced += 1
        self.store.wait([name], LONGEST_WAIT)
        return str(self.store.get(name), "utf-8")

    def leave(self) -> None:
        """End the connections to the other ranks."""
        dist.destroy_process_group()

    def _all_reduce(self, values: Tensor) -> None:
        self._run(lambda: dist.all_reduce(values))

    def _run(self, operation: Callable[[], object]) -> None:
        self.num_turns += 1
        try:
            operation()
            self.num_turns += 1
        except RuntimeError as error:
            time.sleep(LOST_GRACE_S)
            raise HarnessError(f"the processes of the run lost contact: {str(error).splitlines()[0]}") from error
