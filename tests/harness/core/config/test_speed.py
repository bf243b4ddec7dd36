from __future__ import annotations

from dataclasses import replace

import pytest
from record_factory import spec

from harness.core.config.as_json import as_json
from harness.core.config.recipe import WindowSampling
from harness.core.config.speed import Speed, applied, unverified


def test_a_cpu_takes_no_notice_of_what_only_cuda_can_do() -> None:
    graph = Speed(graph=True)
    assert applied(Speed(graph=True, resident=True), "cpu") == Speed()
    assert applied(graph, "cuda:1").graph
    assert unverified(applied(graph, "cpu"), {}, "float16", "cpu") == []
    assert unverified(applied(graph, "cuda:0"), {}, "float16", "cuda:0") == ["graph", "float16"]


@pytest.mark.parametrize(
    ("lstm", "device", "said"),
    [
        ("padded", "cuda:0", ["padded"]),
        ("padded, fused", "cuda", ["padded"]),
        ("fused", "cuda", []),
        ("triton", "cuda:1", ["triton"]),
        ("padded", "cpu", []),
    ],
)
def test_a_backend_that_no_gpu_has_proven_is_named_where_one_ran_it(lstm: str, device: str, said: list[str]) -> None:
    assert unverified(Speed(), {"lstm": lstm, "weight_drop": "reference"}, "float32", device) == said


def test_a_switch_names_another_run_of_the_same_quality() -> None:
    plain = replace(spec(), device="cuda:0")
    graph = replace(plain, speed=Speed(graph=True))
    assert plain.run_id != graph.run_id
    assert plain.quality_identity == graph.quality_identity
    assert replace(plain, device="cpu").run_id == replace(graph, device="cpu").run_id


def test_what_stands_at_its_default_is_not_written_into_a_block() -> None:
    assert as_json(Speed()) == {}
    assert as_json(Speed(graph=True)) == {"graph": True}
    assert "multiple" not in as_json(WindowSampling())
    assert as_json(WindowSampling(multiple=8))["multiple"] == 8
