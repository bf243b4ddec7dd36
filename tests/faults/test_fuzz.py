"""Any content in any file that is read back: read, or refused in one line, within bounds of time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import fuzz_targets
import pytest
from hostile_json import EXTREMES, any_json, changed, json_text, paths, without
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from specimen import Specimen

from harness.suite.yaml_reader import parse_yaml, plain
from harness.system.source import FOLDERS, ROOT

SPLICES = [
    b"9" * 5000, b"-", b"[" * 3000, b'{"a":' * 3000, b"null", b'"', b"\x00", b"\x1b[2J", b"../", b"1e999", b"NaN",
    b"\xff\xfe", b"\xf0\x9f", b"&a [*a, *a]", b"\r\n", b"0x", b"!!python/name:os.system", b"\xc2\x85",
]  # fmt: skip
# Besides what `any_json` draws: texts of paths, markup and formulas, and sizes.
VALUES = [*EXTREMES, "x" * 5000, "../../x", "[/red]", "=1+1", 2**63, [1] * 100]
ODD_KEYS = ["", "x" * 5000, "\x1b[2J", "schema"]


@st.composite
def contents(draw: st.DrawFn, seed: bytes) -> bytes:
    """The seed with some bytes cut and others put in, or with a value of its JSON exchanged for a hostile one."""
    try:
        value = json.loads(seed) if seed.lstrip()[:1] in (b"{", b"[") else plain(parse_yaml(seed.decode(), "seed"))
    except Exception:
        value = None
    if value is not None and draw(st.booleans()):
        place = draw(st.sampled_from([(), *paths(value)]))
        new = draw(st.sampled_from(VALUES) if draw(st.booleans()) else any_json())
        change = draw(st.integers(0, 9))
        if not place:
            value = new
        elif change == 0:
            value = without(value, place)
        else:
            is_new_key = change == 1 and isinstance(place[-1], str)
            value = changed(value, (*place[:-1], draw(st.sampled_from(ODD_KEYS))) if is_new_key else place, new)
        return json_text(value).encode()
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(seed)))
        cut = draw(st.sampled_from([0, 0, 1, 4, 50, len(seed)]))
        seed = seed[:place] + draw(st.sampled_from(SPLICES) | st.binary(max_size=8)) + seed[place + cut :]
    return seed


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Specimen:
    """Apart from the specimen of other tests: what a target leaves is no fault of theirs."""
    return Specimen(tmp_path_factory.mktemp("fuzzed"))


# Imports are instrumented, of the harness alone: for torch it would take minutes.
ATHERIS = """
import sys, atheris
from pathlib import Path
with atheris.instrument_imports(include=["harness"]):
    import fuzz_targets
fuzz_targets.fuzz(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
"""


@pytest.mark.parametrize("max_examples", [6, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", fuzz_targets.NAMES)
def test_any_content_is_read_or_refused(tree: Specimen, name: str, max_examples: int) -> None:
    with tree.at_home():
        tree.restore()
        target = fuzz_targets.make(name, tree)
        assert target(target.seed) is None

        @settings(max_examples=max_examples, suppress_health_check=list(HealthCheck), database=None)
        @given(contents(target.seed), st.integers(0, 3))
        @example(b"", 0)
        @example(b"[" * 100_000, 1)
        def read(content: bytes, chance: int) -> None:
            target(fuzz_targets.signed(content) if chance else content)

        read()


@pytest.mark.slow
@pytest.mark.parametrize("name", fuzz_targets.NAMES)
def test_content_that_follows_branches_is_read_or_refused(tmp_path: Path, name: str) -> None:
    pytest.importorskip("atheris", reason="atheris is not installed")
    folders = [*FOLDERS, *(ROOT / "tests" / part for part in ("faults", "harness", "harness/checkpoints"))]
    bounds = f"-runs=3000 -timeout=20 -rss_limit_mb=4096 -max_len=40000 -artifact_prefix={tmp_path}/crash-".split()
    done = subprocess.run(
        [sys.executable, "-c", ATHERIS, name, str(tmp_path / "tree"), *bounds],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
