"""Fixtures shared by all tests. Tests of real data find it through HARNESS_DATA, or are skipped with a reason."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from harness.system.source import SEARCH_PATH

# Processes that tests start run this code, not what may be installed.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (SEARCH_PATH, os.environ.get("PYTHONPATH"))))

# One core for each process of the test run. Not in a hook: torch reads the number when it is loaded, which the conftest
# of a folder named on the command line does before the first hook. Workers that tests start would have another one.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# What imports and collection make lives to the end: looking for garbage in it again and again takes a tenth of the run.
gc.disable()

# A shared machine may hold any example, and its drawing, up for seconds; the suite's own timeout ends what hangs.
# The same commit draws the same examples. `--hypothesis-profile=search` draws others each time.
settings.register_profile("search", deadline=None, derandomize=False, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("shared", settings.get_profile("search"), derandomize=True)
settings.load_profile("shared")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A process per core; benchmarks, and tests run under a debugger, have the machine to themselves."""
    alone = config.getoption("benchmark_only", default=False) or config.getoption("usepdb", default=False)
    if alone:
        return 0
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pytest_configure() -> None:
    """Let Ctrl-C reach the commands that tests start."""
    # A shell lets its background jobs ignore SIGINT, and what they start inherits that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Leave everything made so far out of the search for garbage."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run long tests first, and give slow ones hours: on a busy machine a minute of computation may take ten."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(7200))


@pytest.fixture(autouse=True, scope="session")
def _no_disk() -> Iterator[None]:
    """No write waits for the disk: what a test leaves need not outlive a loss of power."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own cache."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def _own_numbers() -> None:
    """What a test draws without a seed does not depend on the tests its process ran before."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def ptb_folder() -> Path:
    """The folder of `ptb.train.txt`, `ptb.valid.txt` and `ptb.test.txt`."""
    return _folder("HARNESS_DATA", "ptb", "ptb.train.txt", "Penn Treebank")


@pytest.fixture
def wikitext_folder() -> Path:
    """The folder of WikiText-103's `wiki.valid.tokens` and `wiki.test.tokens`."""
    return _folder("HARNESS_DATA", "wikitext-103", "wiki.test.tokens", "WikiText-103")


def _folder(variable: str, name: str, file: str, what: str) -> Path:
    """The first root of a search path, or the folder `name` in it, that holds `file`."""
    for root in filter(None, os.environ.get(variable, "").split(os.pathsep)):
        for folder in (Path(root), Path(root) / name):
            if (folder / file).is_file():
                return folder.resolve()
    pytest.skip(f"{what} is not in {variable}")
