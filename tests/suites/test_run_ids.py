"""The run ids of every committed suite. They name results on disk, so they must never change.

`run_ids.json` lists run id, quality identity and seedless id by `suite:profile` and `entry-seed`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import data
from harness.core.errors import CheckpointError, DataError
from harness.suite import load, resolve
from harness.system import hardware
from harness.system.source import ROOT

SUITES = ROOT / "suites"
RUN_IDS: dict[str, dict[str, list[str]]] = json.loads((Path(__file__).parent / "run_ids.json").read_text())
# Scores the checkpoints that another profile trains; test_committed_suites.py holds it to that profile's run ids.
FROM_CHECKPOINTS = {"ptb-char:quick-dynamic"}


def test_every_profile_of_every_suite_is_listed() -> None:
    paths = [path.relative_to(SUITES).with_suffix("") for path in SUITES.rglob("*.yaml")]
    cases = {f"{path.as_posix()}:{name}" for path in paths for name in load(SUITES / f"{path}.yaml").profiles}
    assert cases == {*RUN_IDS, *FROM_CHECKPOINTS}


@pytest.mark.parametrize("case", RUN_IDS)
def test_run_ids_do_not_change(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # `dtype: auto` is named by what it is on this machine.
    monkeypatch.setattr(hardware, "bfloat16_products", lambda: "faster than float32")
    name, profile = case.split(":")
    suite = load(SUITES / f"{name}.yaml", profile=profile)
    try:
        specs = resolve(suite, device="cpu", roots=data.search_roots(None))
    except DataError as missing:
        pytest.skip(f"needs the user's own text: {missing}")
    except CheckpointError as missing:
        pytest.skip(f"needs the pretrained model: {missing}")
    assert {
        f"{spec.label.entry}-s{spec.seed}": [spec.run_id, spec.quality_identity, spec.seedless_id] for spec in specs
    } == RUN_IDS[case]
