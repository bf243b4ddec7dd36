"""`harness importance` on studies whose values are functions of the parameters."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from click.testing import CliRunner
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from sklearn.ensemble import RandomForestRegressor

from harness.commands.main import main
from harness.runs.search.importance import Importances, Scale
from harness.runs.search.study import _storage
from harness.statistics.importance import Analysis, Importance, Interaction, Share

SPACE = {
    "recipe.lr": FloatDistribution(1e-4, 1e-1, log=True),
    "recipe.clip": FloatDistribution(0.1, 1.0),
    "model.layers": IntDistribution(1, 4),
    "recipe.optimizer": CategoricalDistribution(("adam", "sgd")),
}


def make_study(path: Path, num: int = 60) -> Path:
    """A study whose value is log10 of the learning rate and the optimiser's step of two; the rest is nothing."""
    study = optuna.create_study(study_name="x", storage=_storage(path))
    attributes = {"suite": "small, entry qrnn", "metric": "bpc", "space": [*SPACE, "recipe.betas"], "identity": {}}
    for name, value in attributes.items():
        study.set_user_attr(name, value)
    sampler = optuna.samplers.RandomSampler(seed=0)
    study.sampler = sampler
    trials = []
    for number in range(num):
        trial = study.ask(SPACE)
        trial.set_user_attr("sampler", "tpe" if number == 1 else "random")
        parameters: dict[str, Any] = dict(trial.params)
        if parameters["recipe.optimizer"] == "adam":
            trial.suggest_float("recipe.betas", 0, 1)
        if number == 0:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            continue
        study.tell(trial, math.log10(parameters["recipe.lr"]) + 2 * (parameters["recipe.optimizer"] == "sgd"))
        trials.append(trial)
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("study") / "x.journal")


def invoke(*arguments: object, trees: int = 4) -> Any:
    command = ["importance", *map(str, arguments), "--trees", str(trees), "--resamples", "10"]
    return CliRunner().invoke(main, command, catch_exceptions=False)


def test_the_table_ranks_what_matters_above_the_random_parameter(study: Path) -> None:
    done = invoke(study, "--format", "json", trees=40)
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    rows = {row["parameter"]: row for row in found["parameters"]}
    assert [row["parameter"] for row in found["parameters"]][:2] == ["recipe.optimizer", "recipe.lr"]
    # log10 of the rate over three decades has variance 9 / 12, the step 1.
    assert rows["recipe.lr"]["fanova"] == pytest.approx(0.75 / 1.75, abs=0.12)
    assert rows["recipe.optimizer"]["fanova"] == pytest.approx(1 / 1.75, abs=0.12)
    verdicts = {name: row["verdict"] for name, row in rows.items()}
    assert verdicts == {
        "recipe.lr": "matters",
        "recipe.optimizer": "matters",
        "recipe.clip": "noise",
        "model.layers": "noise",
        "(random)": None,
    }
    assert found["trials"] == 59
    assert found["remarks"] == [
        "small, entry qrnn: 59 finished trials",
        "these shares may be wrong, they need trials drawn by random without --prune: "
        "1 trial drawn by tpe, trials pruned by an unnamed rule",
        "left out: 1 trial that did not finish or were pruned",
        "left out: recipe.betas, which not all trials have or vary",
    ]


def test_a_parameter_that_acts_in_a_pair_alone_is_named_with_the_other() -> None:
    share = Share(0.1, 0.0, 0.2)
    parameters = [Importance(share, share, beats) for beats in (0.5, 1.0, 0.5, 0.0)]
    pairs = {(1, 2): Interaction(share, 0.9), (0, 1): Interaction(share, 1.0)}
    forest = RandomForestRegressor()
    empty = np.zeros((0, 3))
    analysis = Analysis(parameters, pairs, share, forest)
    found = Importances("small", "bpc", ["a", "b", "c"], [], empty, empty[:, 0], analysis, [])
    verdicts = {row["parameter"]: row["verdict"] for row in found.rows()}
    assert verdicts == {"a": "in a pair with b", "b": "matters", "c": "noise", "(random)": None}
    assert [row["pair"] for row in found.interactions()] == ["b x c", "a x b", "(random) x any"]


def test_the_picture_has_the_joint_plot_of_rate_and_clipping_and_is_repeatable(study: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    for name in ("a.svg", "b.svg"):
        assert invoke(study, "--out", tmp_path / name).exit_code == 0
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert text.count("recipe.clip") == text.count("recipe.lr") == 2
    assert text.count("model.layers") == 1
    assert invoke(study, "--out", tmp_path / "c.svg", "--pair", "model.layers,recipe.lr").exit_code == 0
    assert (tmp_path / "c.svg").read_text(encoding="utf-8").count("model.layers") == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pair", "a,b"], "--pair goes with --out"),
        (["--out", "x.svg", "--pair", "recipe.lrr,recipe.clip"], "'recipe.lrr' is no parameter of the study. Did you"),
        (["--out", "x.svg", "--pair", "recipe.lr"], "is not NAME,NAME of two parameters"),
    ],
)
def test_bad_options_are_one_line(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke(study, *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_too_few_trials_are_refused(tmp_path: Path) -> None:
    done = invoke(make_study(tmp_path / "few.journal", 6))
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "5 finished trials are too few: importance needs 8" in done.stderr


def test_scales_are_uniform_in_the_distribution() -> None:
    rate, layers = Scale(SPACE["recipe.lr"]), Scale(SPACE["model.layers"])
    assert rate.to_unit(1e-3) == pytest.approx(1 / 3)
    assert float(rate.from_unit(1 / 3)) == pytest.approx(1e-3)
    assert [layers.to_unit(number) for number in (1, 4)] == [1 / 8, 7 / 8]
    optimizer = Scale(SPACE["recipe.optimizer"])
    assert [optimizer.from_unit(optimizer.to_unit(name)) for name in ("adam", "sgd")] == ["adam", "sgd"]
