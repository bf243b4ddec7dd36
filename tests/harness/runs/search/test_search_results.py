"""What a search concludes: by means over seeds, in tables that no other search overwrites."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from record_factory import failed, record, score

from harness.runs.search.results import Outcome, gather
from harness.runs.search.space import Request, Space, space_of
from harness.runs.search.study import KnownTrial, study_path

SUITE = """
suite: {name}
dataset: {{kind: markov, order: 1, symbols: 5, train: {train}, valid: 500, test: 500}}
metrics: [bpc]
seeds: [1]
entries:
  qrnn:
    model: {{builder: qrnn, layers: 1, hidden: 8, embedding: 6}}
    recipe: {{optimizer: adam, lr: 1e-2, batch: 8, bptt: 20, epochs: 9}}
"""
THREE = "recipe.lr=1e-3,2e-3,4e-3"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SUITE.format(name="small", train=3000))
    return path


def request(suite: Path, *over: str, **changes: Any) -> Request:
    return Request(**{"suite": suite, "entry": "qrnn", "over": over or (THREE,), "tokens": 640, **changes})


def outcome(asked: Request, *values: float | str | None) -> Outcome:
    """Trials in the grid's order, seeds together: a score, a status without one, or None for no record."""
    space = space_of(asked)
    told = trials(space)
    specs = [spec for trial in space.grid_trials() for spec in trial.specs]
    records = []
    for spec, value in zip(specs, values, strict=True):
        if isinstance(value, str):
            records.append(failed(value, spec_=spec))
        elif value is not None:
            records.append(record(spec_=spec, scores=[score(value, split="valid")]))
    return gather(space, told, {each.run_id: each for each in records})


def trials(space: Space) -> list[KnownTrial]:
    return [
        KnownTrial(number, trial.values, tuple(spec.run_id for spec in trial.specs))
        for number, trial in enumerate(space.grid_trials())
    ]


def order(found: Outcome) -> list[str]:
    return list(found.points["recipe.lr"])


def test_the_best_stands_first_and_a_failure_last_with_its_reason(suite: Path) -> None:
    found = outcome(request(suite), 1.5, "failed", 1.4)
    assert order(found) == ["4e-3", "1e-3", "2e-3"]
    best, _, lost = found.points.to_dict("records")
    assert (best["bpc"], best["std_error"], best["status"], best["seeds"]) == (1.4, 0.004, "finished", "1")
    assert (math.isnan(lost["bpc"]), lost["status"], lost["seeds"]) == (True, "failed", "0 of 1")
    [said] = [each for each in found.conclusions if "not judged" in each]
    assert said.startswith("recipe.lr 2e-3 is not judged: seed 1 failed: out of memory at step 12 (")


def test_conclusions_say_how_sure_they_are(suite: Path) -> None:
    edge = outcome(request(suite), 1.5, 1.45, 1.4).conclusions
    assert edge[0] == "best on valid: recipe.lr 4e-3"
    assert edge[1] == "the next, recipe.lr 2e-3, is 0.0500 behind; the standard error of one score is 0.0040"
    assert "edge of the values tried" in edge[2]
    inside = outcome(request(suite), 1.5, 1.4, 1.45).conclusions
    assert not [said for said in inside if "edge" in said]
    assert "one seed (1)" in inside[-1]
    lost = outcome(request(suite), "failed", "diverged", None).conclusions
    assert lost[0] == "no trial finished: nothing is concluded"
    assert [each.split(":")[1].split()[2] for each in lost[1:]] == ["failed", "diverged", "not"]


def test_settings_are_ranked_by_their_mean_and_not_by_their_luckiest_seed(suite: Path) -> None:
    seeds = {1: (1.30, 1.60, 1.60), 2: (1.45, 1.40, 1.44), 4: (1.9, 1.8, 1.7)}
    found = outcome(request(suite, seeds=(1, 2, 3)), *(value for values in seeds.values() for value in values))
    assert order(found) == ["2e-3", "1e-3", "4e-3"]
    best = found.points.iloc[0]
    assert best["bpc"] == pytest.approx(1.43)
    assert best["std_dev"] == pytest.approx(statistics.stdev(seeds[2]))
    assert (best["seeds"], best["std_error"]) == ("3", None)
    gaps = [a - b for a, b in zip(seeds[1], seeds[2], strict=True)]
    error = statistics.stdev(gaps) / math.sqrt(3)
    assert found.conclusions[:2] == (
        "best on valid: recipe.lr 2e-3, the mean of 3 seeds",
        f"the next, recipe.lr 1e-3, is {1.5 - 1.43:.4f} behind; "
        f"the standard error of that difference, seed by seed, is {error:.4f}",
    )
    assert not [said for said in found.conclusions if "one seed" in said]
    assert [row.count("1.3000") for row in found.render().splitlines() if "1.3000" in row] == [1]


def test_a_point_that_lacks_a_seed_is_never_the_best_and_says_why(suite: Path) -> None:
    found = outcome(request(suite, seeds=(1, 2)), 1.1, "diverged", 1.5, 1.6, 1.2, None)
    assert order(found) == ["2e-3", "1e-3", "4e-3"]
    assert found.points.iloc[1]["seeds"] == "1 of 2"
    assert found.points.iloc[1]["status"] == "incomplete"
    assert found.conclusions[0] == "best on valid: recipe.lr 2e-3, the mean of 2 seeds"
    assert not [said for said in found.conclusions if "behind" in said]
    unjudged = [said for said in found.conclusions if "not judged" in said]
    assert "recipe.lr 1e-3 is not judged: seed 2 diverged: out of memory" in unjudged[0]
    assert "recipe.lr 4e-3 is not judged: seed 2 not run" in unjudged[1]
    none = outcome(request(suite, seeds=(1, 2)), 1.1, None, None, 1.6, 1.2, None)
    assert none.conclusions[0] == "no point has a score for each seed: nothing is concluded"


def test_a_score_that_was_recorded_under_another_metric_is_divided_anew(suite: Path) -> None:
    space = space_of(request(suite, "recipe.lr=1e-3"))
    [trial] = space.grid_trials()
    words = record(spec_=trial.specs[0], scores=[score(2.0, split="valid", metric="perplexity")])
    assert gather(space, trials(space), {words.run_id: words}).points["bpc"][0] == pytest.approx(1.0)
    lost = record(spec_=trial.specs[0], scores=[score(None, split="valid")])
    assert "no finite bpc of valid" in gather(space, trials(space), {lost.run_id: lost}).conclusions[1]


def test_pruned_trials_are_counted_and_not_listed(suite: Path) -> None:
    found = outcome(request(suite), 1.5, "pruned", 1.4)
    assert order(found) == ["4e-3", "1e-3", "2e-3"]
    assert "1 trial stopped early by the pruner" in found.conclusions
    assert not [said for said in found.conclusions if "not judged" in said]


def test_no_search_overwrites_the_table_of_another(suite: Path, tmp_path: Path) -> None:
    twin = tmp_path / "elsewhere" / "small.yaml"
    twin.parent.mkdir()
    twin.write_text(SUITE.format(name="small", train=4000))
    renamed = tmp_path / "third" / "small.yaml"
    renamed.parent.mkdir()
    renamed.write_text(SUITE.format(name="other", train=3000))
    plain = request(suite)
    several = [
        plain,
        replace(plain, seeds=(2,)),
        replace(plain, seeds=(1, 2)),
        replace(plain, device="cuda:0"),
        replace(plain, suite=twin),
        replace(plain, suite=renamed),
        replace(plain, tokens=1280),
        replace(plain, overrides=("recipe.clip=0.5",)),
        replace(plain, over=("recipe.lr=1e-3,2e-3",)),
    ]
    results = tmp_path / "results"
    written = [study_path(space_of(asked), results) for asked in several]
    assert len(set(written)) == len(several)
    same = [replace(plain, seeds=(1,)), replace(plain, device="cpu")]
    assert {study_path(space_of(asked), results) for asked in same} == {written[0]}
    other_card = replace(plain, device="cuda:1")
    assert study_path(space_of(other_card), results) == study_path(space_of(several[3]), results)


def test_the_heading_says_seeds_device_and_all_that_was_asked(suite: Path, tmp_path: Path) -> None:
    asked = request(suite, seeds=(7, 8), device="cuda:1", overrides=("recipe.clip=0.5",))
    found = outcome(asked, 1.5, 1.6, 1.4, 1.45, 1.7, 1.8)
    heading = (
        f"# small, entry qrnn, seeds 7, 8, on cuda, by the grid sampler: --over {THREE} --set recipe.clip=0.5, "
        "640 tokens each"
    )
    path = found.write(tmp_path / "s.journal")
    assert path.read_text().splitlines()[0] == heading
    body = json.loads(path.with_suffix(".json").read_text())
    assert (body["suite"], body["seeds"], body["device"]) == ("small", [7, 8], "cuda")
    assert [(row["recipe.lr"], row["seed"]) for row in body["trials"]][:2] == [("2e-3", 7), ("2e-3", 8)]
