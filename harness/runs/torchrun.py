"""A command that torchrun has started N times: rank 0 does its runs, the others take part in each of them.

Rank 0's worker puts the job of a run into torchrun's store. The command of each other rank starts a worker of its own
for it, and reports one that is lost. Only imported under torchrun.
"""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import HarnessError
from harness.core.messages import reason
from harness.worker.job import Launch, RunJob

if TYPE_CHECKING:
    from torch.distributed import PrefixStore  # type: ignore[attr-defined, unused-ignore]

POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Place:
    """This process among those that torchrun has started: `local_rank` counts those of this machine."""

    rank: int
    local_rank: int
    size: int
    launch: Launch


def place() -> Place:
    """Read the variables of torchrun. Raises HarnessError if they are incomplete."""
    try:
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
            raise HarnessError("torchrun was told not to share its store: unset TORCH_DISABLE_SHARE_RDZV_TCP_STORE")
        rank, local_rank, size, port = (
            int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT")
        )
        attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
        return Place(rank, local_rank, size, Launch(host=os.environ["MASTER_ADDR"], port=port, attempt=attempt))
    except (KeyError, ValueError) as error:
        raise HarnessError(
            f"the variables of torchrun are incomplete ({reason(error)}); --processes N starts processes by itself"
        ) from None


def finish(launch: Launch) -> None:
    """Tell the other ranks that there are no more runs."""
    from harness.worker import group

    board = group.connect(launch)
    board.set(group.called(board.add(group.NUM_RUNS, 1)), "")


def follow(here: Place) -> None:
    """Take part in the runs of rank 0 until there are no more, or until torchrun asks this process to end.

    Raises HarnessError if torchrun's store is gone.
    """
    asked = threading.Event()
    for request in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        # Rank 0 saves first, which takes all ranks.
        signal.signal(request, lambda *_: asked.set())
    from harness.worker import group

    try:
        board = group.connect(here.launch)
        for number in count(1):
            while not board.check([group.called(number)]):
                if asked.wait(POLL_S):
                    return
            text = str(board.get(group.called(number)), "utf-8")
            if not text:
                return
            lost = _join(RunJob.model_validate_json(text), here, board, number)
            if lost is not None:
                board.set(group.failed(number), lost)
    except RuntimeError as error:
        raise HarnessError(f"torchrun's store is gone: {reason(error)}") from None


def _join(job: RunJob, here: Place, board: PrefixStore, number: int) -> str | None:
    """Be one of the processes of a run. Returns the line on how it was lost, or None."""
    from harness.worker import group

    if job.prepared is not None and not (prepared := _own(job.prepared)).is_dir():
        return (
            f"process {here.rank + 1} of {here.size} has no prepared data in {prepared}: give "
            "`harness data prepare` for the suite on its machine"
        )
    process = group.start(
        group.on_rank(job, here.rank, here.local_rank).model_copy(update={"prepared": job.prepared and prepared})
    )
    try:
        while process.poll() is None:
            # The next run has begun if rank 0 was lost before it could say that this one is over.
            if any(board.check([name]) for name in (group.over(number), group.called(number + 1))):
                return None
            threading.Event().wait(POLL_S)
        return group.ending_of(here.rank, here.size, process.returncode)
    finally:
        group.end([process])


def _own(prepared: Path) -> Path:
    """The folder of the same content in the cache of this machine, unless it is there under the same path."""
    if prepared.is_dir():
        return prepared
    from harness import data

    return data.cache_folder() / "prepared" / prepared.name
