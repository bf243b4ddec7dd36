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

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_factory import recipe, score
from specimen import Specimen

from harness.checkpoints import format as checkpoint_format
from harness.checkpoints import model
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
ROW = {
    "id": "markov/a", "task": "Language Modelling", "dataset": "markov", "metric": "bpc", "split": "test", "value": 2.1,
    "model": "A", "params": 1000, "source": "arXiv:1803.08240", "paper": True,
}  # fmt: skip
RATIO = {"op": "a", "case": "b", "dtype": "c", "direction": "d", "backend": "e", "ratio": 0.5}
SCHEDULE = Schedule.of(recipe()).model_dump(mode="json", by_alias=True)
# Files that the specimen has not.
WRITTEN: dict[str, Any] = {
    "published": {"rows": [ROW]},
    "speed-baseline": {"schema": 1, "fingerprint": "cpu", "rows": [RATIO]},
    "plan": {
        "schema": 3, "of": "a", "code": {"version": "0"}, "asked_seconds": 9.0, "expected_seconds": 8.0, "margin": 0.1,
        "rates": {"source": "given", "train_tokens_per_s": 9.5}, "factor": 0.5, "original": SCHEDULE,
        "scaled": SCHEDULE,
    },
    "sensors": {"nvml": {"status": "off", "reason": "no GPU", "quantities": {}, "details": {}}},
    "scores.json": {"of": "x", "rows": [as_json(score(1.5), Path("x"))]},
}  # fmt: skip
NAMES = ("suite", "record", "labels", "baseline", "manifest", "vocabulary", "checkpoint", "weights", "attempts")


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
        "attempts": (attempts, lambda: Attempts(attempts.parent).for_record()),
        "sensors": (own, lambda: trace.read_status(own)),
        "scores.json": (own, lambda: PartialScores(own.parent, "x").find("exact", "test")),
    }
    if name in WRITTEN:
        own.write_text(json.dumps(WRITTEN[name]))
    # The real one takes longer to read.
    (tree.results / "published.yaml").write_text(json.dumps(WRITTEN["published"]))
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


@pytest.mark.parametrize(
    "num", [20, pytest.param(500, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])], ids=["quick", "slow"]
)
@pytest.mark.parametrize("name", [*NAMES, *WRITTEN])
def test_any_content_is_read_or_refused(specimen: Specimen, name: str, num: int) -> None:
    with specimen.at_home():
        path, read = target(name, specimen)
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
        specimen.restore()
