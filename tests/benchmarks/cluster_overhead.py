"""What a run costs beside its worker, on a cluster of two nodes and here: `python cluster_overhead.py [ROUNDS [RUNS]]`.

The worker is a stand-in that ends at once. Rounds alternate, so that a busy machine slows down all; the first round,
which starts processes, is not counted. `python cluster_overhead.py 0 200` queues 200 runs instead.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

HELPERS = Path(__file__).resolve().parents[1] / "harness"
sys.path[:0] = [str(HELPERS), str(HELPERS / "runs" / "cluster")]
# As a command sets them before it imports Ray, which the tests' helpers do here.
os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_ENABLE_AUTO_CONNECT": "0", "RAY_USAGE_STATS_ENABLED": "0"}

from jobs import make_job  # noqa: E402
from test_cluster_runs import cluster  # noqa: E402

from harness.results.store import Store  # noqa: E402
from harness.runs import worker_process  # noqa: E402
from harness.runs.cluster import Cluster, ClusterOptions, connected, node  # noqa: E402
from harness.runs.reporter import Reporter  # noqa: E402
from harness.runs.runner import RunQueue, run_suite  # noqa: E402

SLOTS = 2


def end_at_once(*_: Any) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", "input()"]


def task(*arguments: Any) -> Any:
    """The task of a run whose worker is the stand-in; Ray sends this function as it is to the nodes."""
    worker_process.processes.command = end_at_once
    return node.run_task(*arguments)


def measure(queue: RunQueue, start: int, runs: int) -> tuple[float, float]:
    """Seconds of wall time and of this process's CPU time a run, with seeds that have no record yet."""
    [spec] = queue.specs
    specs = [replace(spec, seed=seed) for seed in range(start, start + runs)]
    began, cpu = time.perf_counter(), time.process_time()
    records = run_suite(replace(queue, specs=specs), Reporter())
    assert all(record.error == "the worker ended with status 0: it wrote nothing" for record in records)
    return (time.perf_counter() - began) / runs, (time.process_time() - cpu) / runs


def compare(queue: RunQueue, nodes: Cluster, rounds: int, runs: int) -> None:
    """Alternate, and print what a run takes here, on the cluster one after the other, and there on all slots."""
    places = {
        "here": queue,
        "cluster, in turn": replace(queue, cluster=nodes, in_turn=True),
        f"cluster, {SLOTS} slots": replace(queue, cluster=nodes),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in places}
    start = 0
    for number in range(rounds + 1):
        for name, place in places.items():
            took = measure(place, start, runs)
            start += runs
            found[name].append(took)
            print(f"round {number}, {name}: {took[0]:.2f} s a run, CPU time of the command {took[1]:.3f} s", flush=True)
    here = found.pop("here")[1:]
    for name, rows in found.items():
        for place, what in ((0, "wall time"), (1, "CPU time of the command")):
            ratios = [each[place] / other[place] for each, other in zip(rows[1:], here, strict=True)]
            added = [each[place] - other[place] for each, other in zip(rows[1:], here, strict=True)]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            print(f"{name}, {what}: {spread} times that here, {statistics.median(added):+.2f} s a run")


def main(rounds: int = 5, runs: int = 4) -> None:
    worker_process.processes.command = end_at_once
    with tempfile.TemporaryDirectory() as folder, cluster(*[(1, {})] * SLOTS) as found:
        job = make_job(Path(folder))
        queue = RunQueue([job.spec], job.prepared, Store(job.results))
        rss: Callable[[], float] = lambda: psutil.Process().memory_info().rss / 1e6  # noqa: E731
        before = rss()
        began = time.perf_counter()
        with connected(ClusterOptions(found.address)) as nodes:
            print(f"connected after {time.perf_counter() - began:.1f} s, load {psutil.getloadavg()[0]:.1f}", flush=True)
            nodes._task = nodes._ray.remote(task)
            if rounds:
                compare(queue, nodes, rounds, runs)
            else:
                took = measure(replace(queue, cluster=nodes), 0, runs)
                print(f"{runs} runs queued: {took[0]:.2f} s a run, {took[1]:.3f} s of CPU time of the command")
            print(f"memory of the command: {before:.0f} MB before, {rss():.0f} MB after")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
