"""Spaces: what a grid tries, what is refused, and that the test split has no say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jobs import in_this_process

from harness.commands.main import main
from harness.core.errors import SuiteError
from harness.runs import runner
from harness.runs.search.space import Request, Trial, check_vocabulary, space_of, split_values

SUITE = """
suite: small
dataset: {kind: markov, order: 1, symbols: 5, train: 3000, valid: 500, test: 500}
metrics: [bpc]
kernels: [fo_pool]
entries:
  other:
    model: {builder: qrnn, layers: 2, hidden: 4, embedding: 4}
    recipe: &r {optimizer: adam, lr: 1e-2, batch: 8, bptt: 20, epochs: 9, decay_at: [5]}
  qrnn:
    model: {builder: qrnn, layers: 2, hidden: 8, embedding: 6}
    recipe: *r
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SUITE)
    return path


def request(suite: Path, *over: str, **changes: Any) -> Request:
    return Request(**{"suite": suite, "entry": "qrnn", "over": over, "tokens": 640, **changes})


def trials(asked: Request) -> list[Trial]:
    return space_of(asked).grid_trials()


def test_a_grid_is_every_combination_of_one_entry_and_scores_valid_alone(suite: Path) -> None:
    found = trials(request(suite, "recipe.lr=1e-3,2e-3", "model.hidden=8,9", "recipe.betas=[0.9, 0.99]"))
    assert [tuple(trial.values.values()) for trial in found] == [
        (lr, hidden, "[0.9, 0.99]") for lr in ("1e-3", "2e-3") for hidden in ("8", "9")
    ]
    assert len({trial.specs[0].run_id for trial in found}) == 4
    for trial in found:
        [spec] = trial.specs
        assert spec.recipe is not None
        assert (spec.recipe.lr, spec.model["hidden"]) == (
            float(trial.values["recipe.lr"]),
            int(trial.values["model.hidden"]),
        )
        assert (spec.recipe.tokens, spec.recipe.epochs, spec.recipe.decay_at) == (640, None, ())
        assert spec.evaluation.splits == ("valid",)
        assert (spec.label.entry, spec.label.profile, spec.label.published, spec.kernels) == (
            "qrnn",
            "search",
            None,
            (),
        )


def test_values_in_brackets_stay_together() -> None:
    assert split_values("1, [2, {a: 3, b: 4}],5") == ["1", "[2, {a: 3, b: 4}]", "5"]


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ((), "nothing to search"),
        (("recipe.lr",), "is not KEY=VALUE,VALUE"),
        (("recipe.lr=1,",), "is not KEY=VALUE,VALUE"),
        (("recipe.lr=1,1",), "names a value twice"),
        (("recipe.lr=1", "entries.qrnn.recipe.lr=2"), "names a key twice"),
        (("evaluation.splits=[test],[valid]",), "may change neither the scoring"),
        (("recipe.lrr=1,2",), "Did you mean 'lr'?"),
        (("recipe.lr=1,-2",), "lr must be positive"),
        (
            [f"recipe.{key}={','.join(map(str, range(1, 301)))}" for key in ("batch", "bptt", "epochs")],
            "more than 200 trials",
        ),
    ],
)
def test_what_is_no_grid_is_refused_before_anything_runs(suite: Path, over: tuple[str, ...], said: str) -> None:
    with pytest.raises(SuiteError) as caught:
        trials(request(suite, *over))
    assert said in str(caught.value)


def test_two_ways_to_write_one_value_are_refused_with_both(suite: Path) -> None:
    over = ("recipe.lr=1e-3,2e-3,0.001", "model.hidden=8,9")
    with pytest.raises(SuiteError, match=r"recipe.lr 1e-3 and recipe.lr 0.001 are one and the same run"):
        trials(request(suite, *over))
    with pytest.raises(SuiteError, match=r"speed.graph true and speed.graph false are one"):
        trials(request(suite, "speed.graph=true,false"))


def test_widths_that_one_tied_layer_does_not_have_are_one_and_the_same_run(suite: Path) -> None:
    with pytest.raises(SuiteError, match=r"model.hidden 16 and model.hidden 32 are one and the same run"):
        trials(request(suite, "model.hidden=16,32", overrides=["entries.qrnn.model.layers=1"]))


def test_a_point_that_cannot_have_the_texts_tokens_is_named(suite: Path) -> None:
    suite.write_text(
        SUITE.replace("layers: 2, hidden: 8, embedding: 6", "layers: 2, hidden: 8, embedding: 6, cutoffs: [2]")
    )
    asked = request(suite, "model.cutoffs=[2],[4]")
    two, four = trials(asked)
    check_vocabulary(space_of(asked), four, 5)
    check_vocabulary(space_of(asked), two, 4)
    with pytest.raises(SuiteError, match=r"entries.qrnn.model at model.cutoffs \[4\]: .*cutoff"):
        check_vocabulary(space_of(asked), four, 4)


def test_the_command_runs_trials_and_writes_their_table(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "run_worker", in_this_process)
    command = ["search", str(suite), "--entry", "qrnn", "--over", "recipe.lr=1e-4,1e-2", "--tokens", "640",
               "--device", "cpu", "--results", str(tmp_path / "results")]  # fmt: skip
    done = CliRunner().invoke(main, command, catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    assert "trial 1: recipe.lr 1e-2\n" in done.stderr
    assert "trial 1: validation" in done.stderr
    assert "best on valid: recipe.lr 1e-2" in done.stdout
    [table] = (tmp_path / "results" / "search").glob("*.json")
    body = json.loads(table.read_text())
    assert [row["recipe.lr"] for row in body["points"]] == ["1e-2", "1e-4"]
    assert [row["recipe.lr"] for row in body["trials"]] == ["1e-2", "1e-4"]
    assert body["trials"][0]["bpc"] < body["trials"][1]["bpc"]
    assert table.with_suffix(".md").read_text() == done.stdout
    for row in body["trials"]:
        kept = json.loads((tmp_path / "results" / "search" / "runs" / row["run_id"] / "record.json").read_text())
        assert [each["split"] for each in kept["scores"]] == ["valid"]
    assert not (tmp_path / "results" / "runs").exists()
    assert "harness importance" not in done.stderr
    sampled = [*command, "--sampler", "random", "--trials", "1", "--study", "mine"]
    assert "; next: harness importance" in CliRunner().invoke(main, sampled, catch_exceptions=False).stderr
    sampled[sampled.index("random")], sampled[sampled.index("--trials") + 1] = "tpe", "2"
    done = CliRunner().invoke(main, sampled, catch_exceptions=False)
    assert "earlier trials of this study were drawn by random, new ones by tpe" in done.stderr
    assert "harness importance" not in done.stderr


def test_the_command_refuses_a_model_that_cannot_have_the_texts_tokens_before_it_runs(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("abba cab " * 300)
    (tmp_path / "own.yaml").write_text(
        "suite: own\ndataset: {kind: chars, name: own, file: text, fractions: [0.8, 0.1, 0.1]}\nmetrics: [bpc]\n"
        "entries:\n  a:\n    model: {builder: qrnn, layers: 1, hidden: 8, embedding: 6, cutoffs: [2]}\n"
        "    recipe: {optimizer: adam, lr: 1e-2, batch: 2, bptt: 10, epochs: 1}\n"
    )
    command = ["search", str(tmp_path / "own.yaml"), "--entry", "a", "--over", "model.cutoffs=[2],[40]",
               "--device", "cpu", "--results", str(tmp_path / "results"), "--quiet"]  # fmt: skip
    done = CliRunner().invoke(main, command, catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "entries.a.model at model.cutoffs [40]:" in done.stderr
    assert not (tmp_path / "results" / "search" / "runs").exists()


SPACE = """
    space:
      recipe.lr: {log_uniform: [1e-4, 1e-1]}
      model.layers: {integer: [1, 3]}
      recipe.optimizer: {choice: [adam, sgd]}
      recipe.betas: {choice: [[0.9, 0.999], [0.9, 0.99]], when: {recipe.optimizer: adam}}
"""


def test_a_grid_lists_whole_numbers_and_searches_a_key_only_under_its_condition(suite: Path) -> None:
    suite.write_text(SUITE + SPACE)
    found = trials(request(suite, "recipe.lr=1e-3"))
    assert [tuple(trial.values.values())[1:] for trial in found] == [
        (layers, *rest) for layers in "123" for rest in (("adam", "[0.9, 0.999]"), ("adam", "[0.9, 0.99]"), ("sgd",))
    ]
    with pytest.raises(SuiteError, match=r"recipe.lr has real numbers, which a grid cannot list"):
        trials(request(suite))


def test_a_condition_holds_for_every_spelling_of_a_value_and_one_that_never_holds_is_said(suite: Path) -> None:
    suite.write_text(
        f"{SUITE}    space:\n      recipe.lr: {{choice: [0.001, 0.002]}}\n"
        "      recipe.clip: {choice: [1, 2], when: {recipe.lr: 0.001}}\n"
    )
    space = space_of(request(suite, "recipe.lr=1e-3,2.0e-3"))
    assert [tuple(point.values()) for point in space.grid()] == [("1e-3", "1"), ("1e-3", "2"), ("2.0e-3",)]
    assert space.remarks() == []
    space = space_of(request(suite, "recipe.lr=3e-3"))
    assert space.remarks() == ["recipe.clip is not searched: --over never gives recipe.lr 0.001"]


def test_the_entry_with_a_space_is_the_one_that_is_searched(suite: Path) -> None:
    suite.write_text(SUITE + SPACE)
    assert space_of(request(suite, entry=None)).entry == "qrnn"
    with pytest.raises(SuiteError, match=r"entry 'qrn' is unknown in profile full. Did you mean 'qrnn'\?"):
        space_of(request(suite, entry="qrn"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sampler": "random"}, "--trials N goes with --sampler random and tpe"),
        ({"num_trials": 3}, "a grid has all of its points"),
        ({"pruner": "median"}, "give entries.qrnn.recipe.validation.every_tokens"),
        ({"pruner": "median", "seeds": (1, 2)}, "--prune judges one run a trial"),
        ({"pruner": "median", "over": ("recipe.tokens=1,2",)}, "recipe.tokens cannot be searched with it"),
        (
            {"pruner": "median", "over": ("recipe={lr: 1, tokens: 9},{lr: 2}",)},
            "recipe.tokens cannot be searched with it",
        ),
        ({"over": ("recipe.lr=1,2", "recipe={lr: 1},{lr: 2}")}, "recipe.lr is a key of recipe, which is searched as"),
    ],
)
def test_options_that_contradict_each_other_are_refused(suite: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SuiteError) as caught:
        space_of(request(suite, **{"over": ("recipe.lr=1e-3,2e-3",), **changes}))
    assert said in str(caught.value)
