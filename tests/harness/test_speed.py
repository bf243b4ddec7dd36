from __future__ import annotations

from dataclasses import replace

import pytest
from record_factory import spec

from harness.speed import applied, changed, unverified


def test_a_cpu_takes_no_notice_of_what_only_cuda_can_do() -> None:
    assert not applied({"graph": True, "resident": True}, "cpu").graph
    assert not applied({"graph": True, "resident": True}, "cpu").resident
    assert applied({"graph": True}, "cuda:1").graph
    assert unverified(applied({"graph": True}, "cpu")) == []
    assert unverified(applied({"graph": True}, "cuda:0")) == ["graph"]


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_defaults_written_out_or_not_name_the_same_run(device: str) -> None:
    assert changed({}, device) == changed({"resident": True, "folded_clip": False, "graph": False}, device) == {}


def test_a_switch_names_another_run_of_the_same_quality() -> None:
    plain = replace(spec(), device="cuda:0")
    graph = replace(plain, speed={"graph": True})
    assert plain.run_id != graph.run_id
    assert plain.quality_identity == graph.quality_identity
    assert replace(plain, device="cpu").run_id == replace(graph, device="cpu").run_id


def test_a_multiple_of_one_names_no_new_run() -> None:
    windows = {"half_probability": 0.05, "std": 5.0, "minimum": 5, "scale_lr": True}
    runs = [replace(spec(), recipe={"lr": 1e-3, "windows": {**windows, **more}}).run_id
            for more in ({}, {"multiple": 1}, {"multiple": 8})]  # fmt: skip
    assert runs[0] == runs[1] != runs[2]
