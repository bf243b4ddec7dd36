"""Any content in any file that is read back: read, or refused in one line, within bounds of time and memory."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from official_files import Writer, criterion, language_model, lstm, lstm_weights, optimizer
from record_factory import recipe, score
from specimen import Specimen

from harness.checkpoints import format as checkpoint_format
from harness.checkpoints import model
from harness.checkpoints.awd_lstm_lm import importer
from harness.core.errors import HarnessError
from harness.core.hashing import with_digest
from harness.data import folder as data_folder
from harness.monitoring.costs.attempts import Attempts
from harness.monitoring.sampler import trace
from harness.regression import baseline, speed_ratios
from harness.report import curves, read_leaderboard
from harness.results import published
from harness.results.record_file import plain as as_json
from harness.runs import planning
from harness.runs.schedule import Schedule
from harness.suite import load
from harness.suite.yaml_reader import parse_yaml, plain
from harness.worker.partial_scores import PartialScores

MOST_CPU_S, MOST_BYTES = 10.0, 128 * 2**20
HOSTILE = [
    None, True, -1, 0, 1e308, 10**400, 2**63, "", "x" * 5000, "../../x", "\x1b[2J\x07", "=1+1", "[/red]", "\ud800",
    float("nan"), [], {}, [[]], {"": None}, [1] * 100, json.loads("[" * 500 + "]" * 500),
]  # fmt: skip
SPLICES = [
    b"9" * 5000, b"-", b"[" * 3000, b'{"a":' * 3000, b"null", b'"', b"\x00", b"\x1b[2J", b"../", b"1e999", b"NaN",
    b"\xff\xfe", b"\xf0\x9f", b"&a [*a, *a]", b"\r\n", b"0x", b"!!python/name:os.system", b"\xc2\x85",
]  # fmt: skip
PUBLISHED = """rows:
  - {id: markov/a, task: Language Modelling, dataset: markov, metric: bpc, split: test, value: 2.1, model: A,
     params: 1_000, source: "arXiv:1803.08240", paper: true}
"""
RATIO = {"op": "a", "case": "b", "dtype": "c", "direction": "d", "backend": "e", "ratio": 0.5}
SCHEDULE = Schedule.of(recipe()).model_dump(mode="json", by_alias=True)
# Files that the specimen has not.
WRITTEN: dict[str, Any] = {
    "speed-baseline": {"schema": 1, "fingerprint": "cpu", "rows": [RATIO]},
    "plan": {
        "schema": 3, "of": "a", "code": {"version": "0"}, "asked_seconds": 9.0, "expected_seconds": 8.0, "margin": 0.1,
        "rates": {"source": "given", "train_tokens_per_s": 9.5}, "factor": 0.5, "original": SCHEDULE,
        "scaled": SCHEDULE,
    },
    "sensors": {"nvml": {"status": "off", "reason": "no GPU", "quantities": {}, "details": {}}},
    "scores.json": {"of": "x", "rows": [as_json(score(1.5), Path("x"))]},
}  # fmt: skip
NAMES = (
    "suite", "record", "labels", "baseline", "published", "manifest", "vocabulary", "checkpoint", "weights",
    "official-zip", "official-legacy", "attempts", *WRITTEN,
)  # fmt: skip


def target(name: str, tree: Specimen) -> tuple[Path, Callable[[], object]]:
    """A file with sound content in a specimen, and what reads it. The reader raises HarnessError or nothing."""
    (prepared,), (weights,) = (tree.cache / "prepared").iterdir(), tree.best.glob("*.safetensors")
    own, attempts = tree.root / name, tree.run / "checkpoints/attempts.json"

    def board() -> None:
        # As the commands: what cannot be read is named, and the rest is shown and judged.
        read = read_leaderboard(tree.results)
        assert not any("\n" in problem for problem in read.problems)
        for form in ("github", "json", "csv", "latex"):
            read.text(form)
        curves.panels(read.records, read.published)
        baseline.measure(read.records)

    def official() -> None:
        data = tree.root / "data"
        data.mkdir(exist_ok=True)
        for split in ("train", "valid", "test"):
            (data / f"{split}.txt").write_text("the cat sat\nthe dog ran")
        importer.import_checkpoint(own, data, tree.root / f"imported-{time.monotonic_ns()}")

    readers: dict[str, tuple[Path, Callable[[], object]]] = {
        "suite": (tree.suite, lambda: load(tree.suite)),
        "record": (tree.run / "record.json", board),
        "labels": (tree.run / "labels.json", board),
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
        "attempts": (attempts, lambda: Attempts(attempts.parent).for_record()),
        "sensors": (own, lambda: trace.read_status(own)),
        "scores.json": (own, lambda: PartialScores(own.parent, "x").find("exact", "test")),
    }
    if name.startswith("official"):
        writer, rng, width, num_words = Writer(), np.random.default_rng(0), 4, 6
        layers = [lstm(writer, lstm_weights(rng, width, width), drop=0.5)]
        embedding = rng.normal(size=(num_words, width)).astype(np.float32)
        network = language_model(writer, layers, embedding, np.zeros(num_words, np.float32))
        writer.write(own, [network, criterion(writer, []), optimizer()], legacy=name.endswith("legacy"))
    elif name in WRITTEN or name == "published":
        own.write_text(PUBLISHED if name == "published" else json.dumps(WRITTEN[name]))
    (tree.results / "published.yaml").write_text(PUBLISHED)  # the real one takes longer to read
    return readers[name]


def read_bounded(path: Path, read: Callable[[], object], content: bytes) -> None:
    """Read other content within bounds of time and memory."""
    path.write_bytes(content)
    started, before = time.process_time(), _peak()
    refusal = ""
    try:
        read()
    except HarnessError as error:
        refusal = str(error)
    used_s, more = time.process_time() - started, _peak() - before
    path.unlink(missing_ok=True)
    assert used_s < MOST_CPU_S, f"{used_s} s"
    assert more < MOST_BYTES, f"{more} bytes"
    assert "\n" not in refusal, f"more than a line: {refusal}"
    assert len(refusal) < 2000, f"a line of {len(refusal)} characters"


def _peak() -> int:
    """The largest size that this process has had, in bytes: of KiB on Linux."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@st.composite
def contents(draw: st.DrawFn, seed: bytes) -> bytes:
    """The seed with some bytes cut and others put in, or with a value of its JSON exchanged for a hostile one."""
    try:
        value = json.loads(seed) if seed.lstrip()[:1] in (b"{", b"[") else plain(parse_yaml(seed.decode(), "seed"))
    except Exception:
        value = None
    if value is not None and draw(st.booleans()):
        value = _exchanged(draw, value)
        # With the digest of the changed content: the checks behind that of the digest must hold by themselves.
        if isinstance(value, dict) and isinstance(value.get("digest"), str):
            with suppress(ValueError):  # no digest of a number that JSON cannot hold
                value = with_digest(value)
        return json.dumps(value).encode()
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(seed)))
        cut = draw(st.sampled_from([0, 0, 1, 4, 50, len(seed)]))
        seed = seed[:place] + draw(st.sampled_from(SPLICES) | st.binary(max_size=8)) + seed[place + cut :]
    return seed


def _exchanged(draw: st.DrawFn, value: Any) -> Any:
    """The value with one part, at any depth, replaced, removed or added."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    if not keys or draw(st.integers(0, 4)) == 0:
        return draw(st.sampled_from(HOSTILE))
    key = draw(st.sampled_from(list(keys)))
    copy = value.copy()
    change = draw(st.integers(0, 9))
    if change == 0:
        del copy[key]
    elif change == 1 and isinstance(copy, dict):
        copy[draw(st.sampled_from(["", "x" * 5000, "\x1b[2J", "schema"]))] = draw(st.sampled_from(HOSTILE))
    else:
        copy[key] = _exchanged(draw, copy[key])
    return copy


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Specimen:
    """Apart from the specimen of other tests: what a target leaves is no fault of theirs."""
    return Specimen(tmp_path_factory.mktemp("fuzzed"))


@pytest.mark.parametrize(
    "num", [20, pytest.param(500, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])], ids=["quick", "slow"]
)
@pytest.mark.parametrize("name", NAMES)
def test_any_content_is_read_or_refused(tree: Specimen, name: str, num: int) -> None:
    with tree.at_home():
        tree.restore()
        path, read = target(name, tree)
        sound = path.read_bytes()
        read()

        @settings(max_examples=num, suppress_health_check=list(HealthCheck), database=None)
        @given(contents(sound))
        def try_one(content: bytes) -> None:
            try:
                read_bounded(path, read, content)
            finally:
                path.write_bytes(sound)

        try_one()
