"""Profiles and `--set` over a suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.config.recipe import Recipe
from harness.core.errors import SuiteError
from harness.suite import load

SUITE = """\
suite: two
dataset: {kind: markov, order: 2, symbols: 8}
metrics: [bpc]
seeds: [1, 2, 3]
entries:
  lstm:
    title: long
    model: &model {builder: awd-lstm, layers: 2, hidden: 16, embedding: 8}
    recipe: &recipe {optimizer: adam, lr: 1e-3, batch: 4, bptt: 5, epochs: 9, decay_at: [3, 6], windows: {}}
  qrnn:
    model: {<<: *model, builder: qrnn}
    recipe: *recipe
profiles:
  quick:
    seeds: [7]
    evaluation: {splits: [valid]}
    entries:
      lstm: {title: short, model: {hidden: 4}, recipe: {epochs: null, tokens: 1_000, decay_at: [], windows: null}}
      qrnn: null
      wide:
        model: {builder: awd-lstm, layers: 1, hidden: 64, embedding: 8}
        recipe: {optimizer: sgd, lr: 1, batch: 4, bptt: 5, epochs: 1}
  same: {dataset: {kind: markov, symbols: 4}}
  nothing:
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "two.yaml"
    file.write_text(SUITE, encoding="utf-8")
    return file


def recipes(path: Path, *overrides: str) -> list[Recipe]:
    return [entry.recipe for entry in load(path, overrides=overrides).entries if entry.recipe is not None]


def test_a_profile_merges_blocks_replaces_lists_drops_and_adds_entries(path: Path) -> None:
    suite = load(path, profile="quick")
    assert (suite.seeds, suite.evaluation.splits) == ((7,), ("valid",))
    assert [entry.name for entry in suite.entries] == ["lstm", "wide"]
    lstm = suite.entries[0]
    assert (lstm.title, lstm.model["hidden"], lstm.model["layers"]) == ("short", 4, 2)
    assert lstm.recipe is not None
    assert (lstm.recipe.epochs, lstm.recipe.tokens) == (None, 1000)
    assert (lstm.recipe.decay_at, lstm.recipe.windows, lstm.recipe.lr) == ((), None, 1e-3)


def test_the_file_itself_is_the_profile_full(path: Path) -> None:
    suite = load(path)
    assert suite == load(path, profile="full")
    assert suite.profiles == ("full", "quick", "same", "nothing")
    assert [entry.model["builder"] for entry in suite.entries] == ["awd-lstm", "qrnn"]
    assert suite.entries[0].recipe == suite.entries[1].recipe
    assert load(path, profile="nothing").entries == suite.entries


def test_a_profile_named_full_changes_the_default(path: Path) -> None:
    path.write_text(SUITE + "  full: {seeds: [5]}\n", encoding="utf-8")
    assert load(path).seeds == (5,)
    assert load(path, profile="same").seeds == (1, 2, 3)


def test_set_reaches_one_entry_or_all(path: Path) -> None:
    assert [recipe.lr for recipe in recipes(path, "entries.lstm.recipe.lr=5e-4")] == [5e-4, 1e-3]
    every = recipes(path, "recipe.batch=16", "recipe.windows.std=2")
    assert [(recipe.batch, recipe.windows and recipe.windows.std) for recipe in every] == [(16, 2.0)] * 2
    assert [recipe.windows for recipe in recipes(path, "recipe.windows=")] == [None, None]
    suite = load(path, overrides=["model.hidden=32", "seeds=[4, 5]"])
    assert [entry.model["hidden"] for entry in suite.entries] == [32, 32]
    assert suite.seeds == (4, 5)
    # Entries without the block are skipped.
    oracle = "  o: {model: {builder: markov-oracle, order: 2, symbols: 8, concentration: 0.2, seed: 0}}\nprofiles:"
    path.write_text(SUITE[: SUITE.index("  same:")].replace("profiles:", oracle), encoding="utf-8")
    assert load(path, overrides=["recipe.batch=2"]).entries[2].recipe is None


def test_set_comes_after_the_profile_and_the_last_one_wins(path: Path) -> None:
    suite = load(path, profile="quick", overrides=["entries.lstm.model.hidden=5", "entries.lstm.model.hidden=6"])
    assert suite.entries[0].model["hidden"] == 6
    assert recipes(path, "recipe.epochs=null", "recipe.tokens=12_000")[0].tokens == 12_000


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("entries.lstm.recipe.lr=x", "--set entries.lstm.recipe.lr: entries.lstm.recipe.lr must be a number, got 'x'"),
        ("recipe.lrr=1", "--set recipe.lrr: entries.lstm.recipe 'lrr' is unknown. Did you mean 'lr'?"),
        ("entries.lstn.recipe.lr=1", "--set entries.lstn.recipe.lr: entries 'lstn' is unknown. Did you mean 'lstm'?"),
        ("recipes.lr=1", "--set recipes.lr: the key 'recipes' is unknown."),
        ("model.builder=gru", "--set model.builder: entries.lstm.model.builder 'gru' is unknown."),
        ("metrics=[ppl]", "--set metrics: metrics[0] 'ppl' is unknown."),
        ("suite=x", "--set suite: 'suite' cannot be set"),
        ("profiles.quick.seeds=[1]", "--set profiles.quick.seeds: 'profiles' cannot be set"),
        ("recipe.lr", "--set recipe.lr: is not KEY=VALUE"),
        ("=1", "--set =1: is not KEY=VALUE"),
        ("recipe..lr=1", "--set recipe..lr=1: is not KEY=VALUE"),
        ("recipe.lr=[", "--set recipe.lr: is not valid YAML"),
        ("recipe.lr=.inf", "--set recipe.lr: .inf is not a finite number"),
        (
            "recipe.tokens=5",
            "epochs and tokens must be given (and 1 more) (after --set recipe.tokens=5)",
        ),
    ],
)
def test_set_mistakes_cite_the_option(path: Path, override: str, message: str) -> None:
    with pytest.raises(SuiteError) as caught:
        load(path, overrides=[override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
