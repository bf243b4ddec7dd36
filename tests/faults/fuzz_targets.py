"""Every file that the harness reads back, as seed and reader. Not a test file."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from official_files import Writer, criterion, language_model, lstm, lstm_weights, optimizer
from specimen import Specimen
from test_hostile_files import EXPECTED, PLAN

from harness.api import compression
from harness.checkpoints import format as checkpoint_format
from harness.checkpoints import model
from harness.checkpoints.awd_lstm_lm import importer
from harness.core.errors import HarnessError
from harness.core.hashing import with_digest
from harness.data import folder as data_folder
from harness.evaluation.coding import container
from harness.monitoring.costs.attempts import Attempts
from harness.regression import baseline, speed_ratios
from harness.report import read_leaderboard
from harness.results import published
from harness.runs import planning
from harness.suite import load
from harness.system.source import ROOT

MOST_CPU_S, MOST_BYTES, MOST_TOKENS = 10.0, 128 * 2**20, 1000
PUBLISHED = """rows:
  - {id: markov/a, task: Language Modelling, dataset: markov, metric: bpc, split: test, value: 2.1, model: A,
     params: 1_000, source: "arXiv:1803.08240", paper: true}
"""
# Content of files that the specimen lacks, and committed files that atheris starts from too.
WRITTEN = {
    "speed-baseline": json.dumps({"schema": 1, "fingerprint": "cpu", "rows": [EXPECTED]}),
    "plan": json.dumps(PLAN),
    "published": PUBLISHED,
}
COMMITTED = {
    "suite": "suites/*.yaml",
    "record": "results/runs/*/record.json",
    "labels": "results/runs/*/labels.json",
    "baseline": "results/baselines/*.json",
    "published": "results/published.yaml",
}
NAMES = (
    "suite", "record", "labels", "baseline", "speed-baseline", "plan", "published", "manifest", "vocabulary",
    "checkpoint", "weights", "official-zip", "official-legacy", "attempts", "compressed",
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A file with sound content, and what reads it. The reader raises HarnessError or nothing."""

    path: Path
    seed: bytes
    read: Callable[[], object]

    def __call__(self, content: bytes) -> HarnessError | None:
        """Read other content within bounds of time and memory; returns how it was refused. The seed is put back."""
        self.path.write_bytes(content)
        started, before, refusal = time.process_time(), _peak(), None
        try:
            self.read()
        except HarnessError as error:
            refusal = error
        finally:
            used_s, more = time.process_time() - started, _peak() - before
            self.path.unlink(missing_ok=True)
            self.path.write_bytes(self.seed)
        assert used_s < MOST_CPU_S, f"{used_s} s"
        assert more < MOST_BYTES, f"{more} bytes"
        assert "\n" not in str(refusal), f"more than a line: {refusal}"
        assert len(str(refusal)) < 700, f"a line of {len(str(refusal))} characters: {refusal}"
        return refusal


def _peak() -> int:
    """The largest size that this process has had, in bytes: of KiB on Linux."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def signed(content: bytes) -> bytes:
    """The content with a digest that fits, if its kind has one: the checks behind that of the digest are tried too."""
    if content.startswith(container.MAGIC):
        return content[:-32] + hashlib.sha256(content[:-32]).digest()
    with suppress(ValueError, RecursionError):
        value = json.loads(content)
        if isinstance(value, dict) and "digest" in value:
            return json.dumps(with_digest(value)).encode()
    return content


def make(name: str, tree: Specimen) -> Target:
    """The target of a name, in a specimen of its own."""
    (prepared,) = (tree.cache / "prepared").iterdir()
    (weights,) = tree.best.glob("*.safetensors")
    own = tree.root / name

    def board(path: Path) -> None:
        # As the command: what cannot be read is named, and the rest is shown. One format each: all take long to fuzz.
        read_leaderboard(tree.results).text(("github", "json", "csv", "latex")[path.stat().st_size % 4])

    def official() -> None:
        data = tree.root / "data"
        data.mkdir(exist_ok=True)
        for split in ("train", "valid", "test"):
            (data / f"{split}.txt").write_text("the cat sat\nthe dog ran")
        importer.import_checkpoint(own, data, tree.root / f"imported-{time.monotonic_ns()}")

    def decompress() -> None:
        # A header may ask for hours of work, as a long text does.
        if container.unpack(own.read_bytes()).header.num_tokens <= MOST_TOKENS:
            compression.decompress(tree.best, own, tree.root / f"decompressed-{time.monotonic_ns()}", device="cpu")

    if name.startswith("official"):
        _write_official(own, legacy=name.endswith("legacy"))
    elif name == "compressed":
        (tree.root / "text").write_text("abcabdaecab" * 5)
        own.unlink(missing_ok=True)
        compression.compress(tree.best, tree.root / "text", own, device="cpu")
    elif name in WRITTEN:
        own.write_text(WRITTEN[name])
    readers: dict[str, tuple[Path, Callable[[], object]]] = {
        "suite": (tree.suite, lambda: load(tree.suite)),
        "record": (tree.run / "record.json", lambda: board(tree.run / "record.json")),
        "labels": (tree.run / "labels.json", lambda: board(tree.run / "labels.json")),
        "baseline": (tree.baseline, lambda: baseline.read(tree.baseline)),
        "speed-baseline": (own, lambda: speed_ratios.read(own)),
        "plan": (own, lambda: planning.read(own)),
        "published": (own, lambda: published.load(own)),
        "manifest": (prepared / "manifest.json", lambda: data_folder.load(prepared)),
        "vocabulary": (prepared / "vocabulary.json", lambda: data_folder.load(prepared)),
        "checkpoint": (tree.best / checkpoint_format.INDEX, lambda: model.load(tree.best, device="cpu")),
        "weights": (weights, lambda: model.load(tree.best, device="cpu")),
        "official-zip": (own, official),
        "official-legacy": (own, official),
        "attempts": (tree.run / "checkpoints/attempts.json", lambda: Attempts(tree.run / "checkpoints").for_record()),
        "compressed": (own, decompress),
    }
    path, read = readers[name]
    (tree.results / "published.yaml").write_text(PUBLISHED)  # the real one takes longer to read
    return Target(path, path.read_bytes(), read)


def _write_official(path: Path, *, legacy: bool) -> None:
    writer, rng = Writer(), np.random.default_rng(0)
    layers = [lstm(writer, lstm_weights(rng, 4, 4), drop=0.5)]
    model = language_model(writer, layers, rng.normal(size=(6, 4)).astype(np.float32), np.zeros(6, np.float32))
    writer.write(path, [model, criterion(writer, []), optimizer()], legacy=legacy)


def fuzz(name: str, folder: Path, *options: str) -> None:
    """Let atheris choose the content of a target. `options` are those of libFuzzer; it ends the process."""
    import atheris

    folder.mkdir()
    target, seeds = make(name, Specimen(folder)), folder / "seeds"
    seeds.mkdir()
    files = sorted(ROOT.glob(COMMITTED[name]), key=lambda path: path.stat().st_size) if name in COMMITTED else []
    for place, content in enumerate([target.seed, *(path.read_bytes() for path in files[:10])]):
        (seeds / str(place)).write_bytes(content)
    os.environ["HARNESS_CACHE"] = str(folder / "cache")
    atheris.Setup([name, *options, str(seeds)], lambda content: target(signed(content)))
    atheris.Fuzz()
