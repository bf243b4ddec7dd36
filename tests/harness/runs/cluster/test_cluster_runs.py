"""The real command on a cluster of real node processes: equal records, lost nodes, killed drivers, other code."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from jobs import without_times

from harness.system.source import FOLDERS, ROOT, SEARCH_PATH

pytest.importorskip("ray", reason="Ray is not installed")
# On a busy machine Ray takes minutes to start its processes, and each test starts many.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SUITE = """
suite: small
task: Language Modelling
dataset: {kind: markov, order: 1, symbols: 6, train: 60000, valid: 1000, test: 1000}
metrics: [bpc]
checkpoint_every_s: 0.5
seeds: [0]
entries:
  qrnn:
    title: QRNN
    model: {builder: qrnn, layers: 2, hidden: 24, embedding: 8, dropout: {hidden: 0.1, output: 0.1}}
    recipe: {optimizer: adam, lr: 5e-3, batch: 8, bptt: 12, epochs: 4, clip: 0.25, validation: {streams: 4}}
"""


class Nodes(NamedTuple):
    """A cluster: its address, and the pid of each node's process, the head's first."""

    address: str
    nodes: list[int]


@contextmanager
def cluster(*nodes: tuple[int, Mapping[str, str]]) -> Iterator[Nodes]:
    """Nodes with so many cores and so much more environment. A head without cores gets no run."""
    # Not tmp_path: the names of Ray's sockets may have 107 bytes.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("cluster_nodes.py")), folder, json.dumps(nodes)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    try:
        yield Nodes(**json.loads(process.stdout.readline()))
    finally:
        process.stdin.close()
        process.wait(timeout=60)
        process.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": SEARCH_PATH}


def start(suite: Path | str, results: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", "harness", "run", str(suite), "--results", str(results), "--device", "cpu"]
    return subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
        cwd=results.parent,
    )  # fmt: skip


def on(nodes: Nodes) -> tuple[str, ...]:
    return ("--executor", "ray", "--address", nodes.address)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, err = process.communicate(timeout=1800)
    return process.returncode, err


def records(results: Path) -> dict[str, Any]:
    """Every run without its times, with the names of its weights, which hold their checksums."""
    return {
        folder.name: (
            without_times(folder),
            sorted(path.name for path in folder.glob("checkpoints/best/*.safetensors")),
        )
        for folder in results.glob("runs/*")
    }


def attempts(results: Path) -> list[dict[str, Any]]:
    [path] = results.glob("runs/*/record.json")
    rows: list[dict[str, Any]] = json.loads(path.read_text())["attempts"]
    return rows


def node_of_worker(nodes: Nodes) -> psutil.Process | None:
    """The node on which a worker trains."""
    for pid in nodes.nodes:
        with suppress(psutil.Error):
            node = psutil.Process(pid)
            for child in node.children(recursive=True):
                with suppress(psutil.Error):
                    if "harness.worker.main" in " ".join(child.cmdline()):
                        return node
    return None


def wait_until_saved(results: Path, process: subprocess.Popen[str]) -> None:
    """Wait for a checkpoint that has come back; on a busy machine Ray takes minutes to start its processes."""
    while not any(results.glob("runs/*/checkpoints/resume/checkpoint.json")):
        assert process.poll() is None, finish(process)
        time.sleep(0.05)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the suite gives on this machine, uninterrupted."""
    folder = tmp_path_factory.mktemp("local")
    (folder / "small.yaml").write_text(SUITE)
    code, err = finish(start(folder / "small.yaml", folder / "results"))
    assert code == 0, err
    return records(folder / "results")


def test_the_calibration_suite_under_four_seeds_has_the_records_of_local_runs(tmp_path: Path) -> None:
    options = ["--profile", "quick", *(word for seed in range(4) for word in ("--seed", str(seed)))]
    caches = [{"HARNESS_CACHE": str(tmp_path / name)} for name in ("first", "second")]
    with cluster((1, caches[0]), (1, caches[1])) as nodes:
        code, err = finish(start("calibration", tmp_path / "cluster", *options, *on(nodes)))
        assert code == 0, err
        # Two suites at once share the nodes.
        both = [start("calibration", tmp_path / f"both-{seed}", *options[:4], *on(nodes)) for seed in range(2)]
        for process in both:
            code, err = finish(process)
            assert code == 0, err
    code, err = finish(start("calibration", tmp_path / "local", *options))
    assert code == 0, err
    here = records(tmp_path / "local")
    assert len(here) == 9  # the oracle has one seed
    assert records(tmp_path / "cluster") == here
    assert (
        records(tmp_path / "both-0")
        == records(tmp_path / "both-1")
        == {name: here[name] for name in records(tmp_path / "both-0")}
    )
    # The data has reached the cache of each node, once.
    assert [len(list((tmp_path / name / "prepared").iterdir())) for name in ("first", "second")] == [1, 1]


def test_a_run_whose_node_is_killed_continues_on_another_one(
    suite: Path, tmp_path: Path, local: dict[str, Any]
) -> None:
    results = tmp_path / "results"
    with cluster((0, {}), (1, {}), (1, {})) as nodes:
        process = start(suite, results, *on(nodes))
        wait_until_saved(results, process)
        node = node_of_worker(nodes)
        assert node is not None
        node.kill()
        code, err = finish(process)
    assert code == 0, err
    assert "it continues on another node from its last checkpoint" in err
    assert "resumed at step" in err
    assert records(results) == local
    rows = attempts(results)
    assert [row["status"] for row in rows] == ["killed", "finished"]
    assert rows[0]["node"] != rows[1]["node"]


def test_a_killed_driver_is_started_again_and_continues(suite: Path, tmp_path: Path, local: dict[str, Any]) -> None:
    results = tmp_path / "results"
    with cluster((1, {}), (1, {})) as nodes:
        process = start(suite, results, *on(nodes))
        wait_until_saved(results, process)
        process.kill()
        finish(process)
        code, err = finish(start(suite, results, *on(nodes)))
        assert code == 0, err
        assert "resumed at step" in err
        code, err = finish(start(suite, results, *on(nodes)))
        assert "finished already" in err
    assert records(results) == local


@pytest.mark.parametrize(
    ("number", "cause", "status"), [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 75)]
)
def test_a_signal_saves_every_run_and_the_same_command_continues(
    suite: Path, tmp_path: Path, local: dict[str, Any], number: signal.Signals, cause: str, status: int
) -> None:
    results = tmp_path / "results"
    with cluster((1, {})) as nodes:
        process = start(suite, results, *on(nodes), "--seed", "0", "--seed", "1")
        wait_until_saved(results, process)
        process.send_signal(number)
        code, err = finish(process)
        assert code == status, err
        assert f"harness: stopped ({cause}): " in err.splitlines()[-1]
        code, err = finish(start(suite, results, *on(nodes), "--seed", "0", "--seed", "1"))
    assert code == 0, err
    assert "resumed at step" in err
    [name] = local
    assert records(results)[name] == local[name]
    assert len(records(results)) == 2


def test_a_node_of_other_code_gets_no_runs(suite: Path, tmp_path: Path, local: dict[str, Any]) -> None:
    other = [tmp_path / "other" / folder.relative_to(ROOT) for folder in FOLDERS]
    for folder, copy in zip(FOLDERS, other, strict=True):
        for package in ("harness", "lm_models", "lm_kernels"):
            if (folder / package).is_dir():
                shutil.copytree(folder / package, copy / package)
    with (tmp_path / "other" / "harness" / "core" / "units.py").open("a") as file:
        file.write("# another version\n")
    changed = {"PYTHONPATH": os.pathsep.join(map(str, other))}
    with cluster((0, {}), (1, changed)) as nodes:
        code, err = finish(start(suite, tmp_path / "refused", *on(nodes)))
    assert code == 2
    assert "; install the same code on the nodes of the cluster" in err.splitlines()[-1]
    results = tmp_path / "results"
    with cluster((0, {}), (1, changed), (1, {})) as nodes:
        code, err = finish(start(suite, results, *on(nodes), "--seed", "0"))
    assert code == 0, err
    assert records(results) == local
