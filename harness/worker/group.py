"""One run over several processes of this machine: the worker is rank 0 and starts the others.

The other ranks get the same job and train and score their columns of the batch; they write nothing. A pipe to each of
them stays open, and its end, when rank 0 is gone, ends them at once. If one of them is gone, rank 0 ends at once, too:
the files on disk are complete at any time, and the run continues from its last checkpoint.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta

from torch.distributed import TCPStore  # type: ignore[attr-defined, unused-ignore]

from harness.checkpoints import model as checkpoint_model
from harness.core.ranks import LOST_GRACE_S, Ranks
from harness.core.specs import RunSpec
from harness.evaluation import protocols
from harness.results.record import RunRecord
from harness.results.store import Store
from harness.system import processes
from harness.training.progress import Diverged, Interrupted
from harness.worker.job import EXIT_RESUME, RunJob, Stop

LOOPBACK = "127.0.0.1"

# For the other ranks to import torch and to load model and data.
START = timedelta(minutes=5)

# For the other ranks to end after the last of their work, before they are killed.
END_GRACE_S = 10.0


@contextmanager
def started(job: RunJob) -> Iterator[Ranks]:
    """Start the other processes of a run and join them, as rank 0; at the end they end.

    Args:
        job: the run; `processes` says how many.

    Raises:
        DeviceError: there are not enough devices.
    """
    for rank in range(1, job.processes):
        checkpoint_model.check_device(
            device_of(job.spec, rank), builder=str(job.spec.model["builder"]), kernel=job.spec.kernel
        )
    _use_loopback()
    # The system chooses the port, so that no other process can take it in between.
    store = TCPStore(LOOPBACK, 0, is_master=True, wait_for_workers=False, timeout=START)
    others = [_start(job.model_copy(update={"rank": rank, "port": store.port})) for rank in range(1, job.processes)]
    ending = threading.Event()
    for rank, process in enumerate(others, 1):
        threading.Thread(target=_watch, args=(rank, process, others, ending), daemon=True).start()
    ranks = None
    try:
        ranks = Ranks(store, 0, job.processes)
        yield ranks
    finally:
        ending.set()
        _end(others)
        if ranks is not None:
            ranks.leave()


def follow(job: RunJob, stop: Stop) -> int:
    """Run one of the other ranks from start to end.

    Args:
        job: as `started` made it.
        stop: asked after every step; True on one rank stops all.

    Returns:
        EXIT_RESUME, if training stopped on request or diverged. Otherwise rank 0 ends this process.
    """
    from harness.worker import execute
    from harness.worker.train import train

    _end_with_input()
    _use_loopback()
    spec = replace(job.spec, device=device_of(job.spec, job.rank))
    folder = Store(job.results).run_folder(spec.run_id) / "checkpoints"
    record = RunRecord(run_id=spec.run_id, spec=spec, status="finished", code=job.code.to_json())
    model, corpus = execute.load(record, job.model_copy(update={"spec": spec}))
    store = TCPStore(LOOPBACK, job.port, timeout=START)
    ranks = Ranks(store, job.rank, job.processes)
    try:
        train(record, model, corpus, folder, lambda event: None, stop, ranks)
        while True:
            protocol, split, keep_nll = ranks.next_announced().split()
            settings = protocols.protocol_for(protocol, split, spec.evaluation)
            protocols.score(model, corpus.splits[split], settings, keep_nll=keep_nll == "True", ranks=ranks)
    except (Interrupted, Diverged):
        return EXIT_RESUME
    except Exception:
        # Rank 0 most likely has the same error. It reports it and then ends this process.
        time.sleep(LOST_GRACE_S)
        raise


def device_of(spec: RunSpec, rank: int) -> str:
    """The device of a rank: consecutive ones from that of the run."""
    kind, _, index = spec.device.partition(":")
    return kind if kind == "cpu" or rank == 0 else f"{kind}:{int(index or 0) + rank}"


def _start(job: RunJob) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        processes.command("harness.worker.main"),
        stdin=subprocess.PIPE,
        # Standard error is rank 0's: what they write reaches the log of the run.
        stdout=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        env=processes.environment(),
    )
    assert process.stdin is not None
    # One that failed at import has closed its pipe; `_watch` says so.
    with suppress(BrokenPipeError):
        process.stdin.write(job.model_dump_json() + "\n")
        process.stdin.flush()
    return process


def _watch(
    rank: int, process: subprocess.Popen[str], others: list[subprocess.Popen[str]], ending: threading.Event
) -> None:
    """End this process as soon as a rank ends before its time: the others would wait for it in vain."""
    status = process.wait()
    if ending.is_set() or status in (0, EXIT_RESUME):
        return
    how = f"was killed by {processes.signal_name(-status)}" if status < 0 else f"ended with status {status}"
    for other in others:
        other.kill()
    print(f"process {rank + 1} of {len(others) + 1} {how}; the run continues from its last checkpoint", file=sys.stderr)
    sys.stderr.flush()
    # Not an exception: the main thread may be in a collective operation that never returns.
    os._exit(1)


def _end(others: list[subprocess.Popen[str]]) -> None:
    """Close the pipes and wait; also after a failure, where a rank may wait for one that has given up."""
    for process in others:
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
    deadline = time.monotonic() + END_GRACE_S
    for process in others:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_with_input() -> None:
    """Exit at the end of standard input, which means that rank 0 is gone or has finished."""

    def read_to_end() -> None:
        while os.read(0, 4096):
            continue
        # Not sys.exit: this is a thread, and the main one may be in a collective operation.
        os._exit(EXIT_RESUME)

    threading.Thread(target=read_to_end, daemon=True).start()


def _use_loopback() -> None:
    """Let gloo connect through the loopback device; otherwise it looks up the name of the host, which may be slow."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
