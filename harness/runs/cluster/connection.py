"""Connect to a cluster that runs, or say in one line why that is not possible."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import ClusterError
from harness.core.messages import printable, reason
from harness.runs.cluster.launch import Cluster
from harness.runs.cluster.mailbox import Mailbox
from harness.runs.limits import QUEUE_SIGNALS
from harness.system.reading import read_text

CLIENT = "ray://"
ADDRESS = re.compile(r"(?:ray://)?(?P<host>[\w.-]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})", re.ASCII)
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
# An address that does not answer in this time is wrong, or behind a firewall.
ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Which cluster, and what one run takes of a node.

    Attributes:
        address: `auto` for the cluster of this machine, `HOST:PORT` of its head, or `ray://HOST:PORT` from outside.
        num_cpus: cores of one run, which are also the threads of its worker.
        num_gpus: devices of one run; a fraction lets runs share one.
    """

    address: str = "auto"
    num_cpus: int = 1
    num_gpus: float = 0.0

    def device(self, asked: str) -> str:
        """The device of the runs: what this machine has says nothing about the nodes.

        Raises ClusterError for a device that a run without GPU does not get.
        """
        if asked == "auto":
            return "cuda" if self.num_gpus else "cpu"
        if asked.startswith("cuda") and not self.num_gpus:
            raise ClusterError(f"--device {asked} on a cluster: give --num-gpus as well")
        return asked


@contextmanager
def connected(options: ClusterOptions) -> Iterator[Cluster]:
    """A cluster to give runs to.

    Args:
        options: which, and what a run takes.

    Raises:
        ClusterError: Ray is not installed, nobody answers at the address, or no node is large enough.
    """
    if not _has_ray():
        raise ClusterError("--executor ray needs Ray, which is not installed: pip install 'lm-harness[ray]'")
    address = _reachable(options.address)
    # Ray reads these at its import. It would report every use to its makers, connect again when a thread uses it after
    # the end, and replace a loopback address, on which a cluster of this machine may listen alone, by the outer one.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    if _host(address) in LOOPBACK:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    try:
        with _without_stderr(), _own_signals():
            context = ray.init(address, log_to_driver=False, logging_level="CRITICAL")
    except Exception as error:  # of many classes: another version of Ray or Python, a port of something else
        raise ClusterError(f"--address {options.address}: {_first_line(error)}") from None
    try:
        # With the driver or, for a driver outside of the cluster, on the node of its server: if that is lost, so is
        # the driver's own connection.
        place = ray.get_runtime_context().get_node_id()
        only = {"ray.io/node-id": place}
        mailbox = ray.remote(Mailbox).options(num_cpus=0, label_selector=only, max_concurrency=10_000).remote()
        cluster = Cluster(ray, mailbox, num_cpus=options.num_cpus, num_gpus=options.num_gpus)
        try:
            cluster.check_size()
            cluster.open()
            yield cluster
        finally:
            cluster.close()
    finally:
        with suppress(Exception):
            context.disconnect()
        with suppress(Exception):
            ray.shutdown()


def _has_ray() -> bool:
    return importlib.util.find_spec("ray") is not None


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Drop what C++ code writes to standard error: Ray repeats a failure once a second there, and then raises it."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handlers of this process: Ray's own for SIGTERM ends it before the runs are saved."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, *QUEUE_SIGNALS)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _reachable(address: str) -> str:
    """The address in full, at which something answers."""
    full = _of_this_machine() if address == "auto" else address
    match = ADDRESS.fullmatch(full)
    if match is None or not 0 < int(match["port"]) < 1 << 16:
        raise ClusterError(f"--address {full}: is not auto, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((match["host"].strip("[]"), int(match["port"])), timeout=ANSWER_S).close()
    except OSError as error:
        reason = f"no answer in {ANSWER_S:g} s" if isinstance(error, TimeoutError) else error.strerror or error
        raise ClusterError(
            f"--address {address}: no cluster answers at {full} ({reason}); `ray start --head` starts one"
        ) from None
    return full


def _of_this_machine() -> str:
    """The address that Ray's own commands use: RAY_ADDRESS, or what `ray start` has noted."""
    if named := os.environ.get("RAY_ADDRESS"):
        return named
    note = Path(os.environ.get("RAY_TMPDIR", "/tmp" if os.name == "posix" else tempfile.gettempdir()), "ray")
    with suppress(OSError, ValueError):
        return read_text(note / "ray_current_cluster").strip()
    raise ClusterError(
        "--address auto: no cluster runs on this machine; start one with `ray start --head`, or name one as HOST:PORT"
    )


def _host(address: str) -> str:
    match = ADDRESS.fullmatch(address)
    return "" if match is None else match["host"]


def _first_line(error: Exception) -> Any:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[0]) if lines else reason(error)
