"""One run over several processes: the worker is rank 0 and starts the others, or calls those that torchrun has started.

The other ranks get the same job and train and score their columns of the batch; they write nothing. A pipe to each of
them stays open, and its end, when rank 0 is gone, ends them at once. If one of them is gone or no longer answers, rank
0 ends at once, too: the files on disk are complete at any time, and the run continues from its last checkpoint.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined, unused-ignore]

from harness.checkpoints import model as checkpoint_model
from harness.core.errors import HarnessError
from harness.core.pulse import CONTINUES, Pulse
from harness.core.ranks import LONGEST_WAIT, LOST_GRACE_S, Ranks
from harness.core.specs import RunSpec
from harness.evaluation import protocols
from harness.results.record import RunRecord
from harness.results.store import Store
from harness.system import processes
from harness.training.progress import Diverged, Interrupted
from harness.worker.job import EXIT_RESUME, LOOPBACK, Launch, RunJob, Stop

# For the other ranks to import torch and to load model and data.
START = timedelta(minutes=5)

# For the other ranks to end after the last of their work, before they are killed.
END_GRACE_S = 10.0

# Name of the number of runs in torchrun's store.
NUM_RUNS = "runs"


@contextmanager
def started(job: RunJob) -> Iterator[Ranks]:
    """Start or call the other processes of a run and join them, as rank 0; at the end they end.

    Args:
        job: the run; `processes` says how many, `launch` whether torchrun has started them.

    Raises:
        DeviceError: there are not enough devices.
        HarnessError: one of them has not started after some minutes.
    """
    host = LOOPBACK if job.launch is None else job.launch.host
    _use_loopback(host)
    # The system chooses the port, so that no other process can take it in between.
    store = TCPStore(LOOPBACK, 0, is_master=True, wait_for_workers=False, timeout=START)
    job = job.model_copy(update={"host": host, "port": store.port})
    ranks = None
    try:
        with _children(job) if job.launch is None else _called(job, job.launch) as lost:
            for rank in range(1, job.processes):
                _wait_for(store, rank, job.processes)
            pulse = Pulse(
                _client(LOOPBACK, store.port), 0, job.processes, lost,
                turns=lambda: 0 if ranks is None else ranks.num_turns,
            )  # fmt: skip
            pulse.start()
            try:
                ranks = Ranks(store, 0, job.processes)
                yield ranks
            finally:
                pulse.stop()
    finally:
        if ranks is not None:
            ranks.leave()


@contextmanager
def _children(job: RunJob) -> Iterator[Callable[[str], None]]:
    """Start the other ranks as processes of this one; gives what ends them all with a line."""
    for rank in range(1, job.processes):
        checkpoint_model.check_device(
            device_of(job.spec, rank), builder=str(job.spec.model["builder"]), kernel=job.spec.kernel
        )
    others: list[subprocess.Popen[str]] = []
    ending = threading.Event()

    def lost(line: str) -> None:
        for other in others:
            other.kill()
        _exit_with(line)

    def watch(rank: int, process: subprocess.Popen[str]) -> None:
        how = ending_of(rank, job.processes, process.wait())
        if how is not None and not ending.is_set():
            lost(how)

    try:
        for rank in range(1, job.processes):
            others.append(start(on_rank(job, rank, rank)))
            threading.Thread(target=watch, args=(rank, others[-1]), daemon=True).start()
        yield lost
    finally:
        ending.set()
        end(others)


@contextmanager
def _called(job: RunJob, launch: Launch) -> Iterator[Callable[[str], None]]:
    """Give the run to the processes that torchrun has started; gives what ends them all with a line."""
    board = connect(launch)
    number = board.add(NUM_RUNS, 1)

    def lost(line: str) -> None:
        board.set(over(number), "")
        _exit_with(line)

    def watch() -> None:
        # On a connection of its own, which it blocks.
        failures = connect(launch)
        failures.wait([failed(number)], LONGEST_WAIT)
        lost(str(failures.get(failed(number)), "utf-8"))

    threading.Thread(target=watch, daemon=True).start()
    board.set(called(number), job.model_dump_json())
    try:
        yield lost
    finally:
        board.set(over(number), "")


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
    _use_loopback(job.host)
    parent, spec = os.getppid(), job.spec
    folder = Store(job.results).run_folder(spec.run_id) / "checkpoints"
    record = RunRecord(run_id=spec.run_id, spec=spec, status="finished", code=job.code.to_json())
    model, corpus = execute.load(record, job)
    store = _client(job.host, job.port)

    def lost(line: str) -> None:
        # A stopped process cannot end itself. Its own parent then reads the line.
        print(line, file=sys.stderr, flush=True)
        if job.launch is None and os.getppid() == parent:
            os.kill(parent, signal.SIGKILL)
        os._exit(1)

    store.set(_here(job.rank), "")
    Pulse(_client(job.host, job.port), job.rank, job.processes, lost).start()
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


def on_rank(job: RunJob, rank: int, local_rank: int) -> RunJob:
    """The job of another rank.

    Args:
        job: of rank 0.
        rank: of all processes.
        local_rank: of those of its machine, which chooses the device.
    """
    spec = replace(job.spec, device=device_of(job.spec, local_rank))
    return job.model_copy(update={"rank": rank, "spec": spec})


def start(job: RunJob) -> subprocess.Popen[str]:
    """Start the process of another rank."""
    process = subprocess.Popen(
        processes.command("harness.worker.main"),
        stdin=subprocess.PIPE,
        # Standard error is the parent's: what they write reaches the log of the run.
        stdout=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        env=processes.environment(),
        # Ctrl-C reaches the command alone, which then asks rank 0 to save.
        start_new_session=job.launch is not None,
    )
    assert process.stdin is not None
    # One that failed at import has closed its pipe; its status says so.
    with suppress(BrokenPipeError):
        process.stdin.write(job.model_dump_json() + "\n")
        process.stdin.flush()
    return process


def ending_of(rank: int, size: int, status: int) -> str | None:
    """The line on a rank that ended before its time; None if it was to end.

    Args:
        rank: its number.
        size: of the group.
        status: as of Popen.wait.
    """
    if status in (0, EXIT_RESUME):
        return None
    how = f"was killed by {processes.signal_name(-status)}" if status < 0 else f"ended with status {status}"
    return f"process {rank + 1} of {size} {how}; {CONTINUES}"


def end(others: list[subprocess.Popen[str]]) -> None:
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


def connect(launch: Launch) -> PrefixStore:
    """A connection to torchrun's store, for this start of its processes."""
    return PrefixStore(f"harness/{launch.attempt}", _client(launch.host, launch.port))


def called(number: int) -> str:
    """Name of the job of a run in torchrun's store; runs are numbered from 1, and an empty job is the end."""
    return f"run/{number}"


def failed(number: int) -> str:
    """Name of the line on the first process of a run that was lost."""
    return f"failed/{number}"


def over(number: int) -> str:
    """Name of what says that a run is over."""
    return f"over/{number}"


def _client(host: str, port: int) -> TCPStore:
    return TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=START)


def _here(rank: int) -> str:
    return f"here/{rank}"


def _wait_for(store: TCPStore, rank: int, size: int) -> None:
    try:
        store.wait([_here(rank)], START)
    except RuntimeError:
        raise HarnessError(
            f"process {rank + 1} of {size} has not started after {START.total_seconds() / 60:.0f} minutes"
        ) from None


def _exit_with(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
    # Not an exception: the main thread may be in a collective operation that never returns.
    os._exit(1)


def _end_with_input() -> None:
    """Exit at the end of standard input, which means that rank 0 is gone or has finished."""

    def read_to_end() -> None:
        while os.read(0, 4096):
            continue
        # Not sys.exit: this is a thread, and the main one may be in a collective operation.
        os._exit(EXIT_RESUME)

    threading.Thread(target=read_to_end, daemon=True).start()


def _use_loopback(host: str) -> None:
    """Let gloo connect through the loopback device; otherwise it looks up the name of the host, which may be slow."""
    if host not in (LOOPBACK, "localhost", "::1"):
        return
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
