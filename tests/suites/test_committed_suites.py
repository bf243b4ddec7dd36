"""Every suite of the project loads in every profile and says what the paper's recipe says."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config.recipe import Averaging, Finetune, WindowSampling
from harness.suite import load, resolve
from harness.suite.dry_run import describe
from harness.system.source import ROOT

SUITES = sorted((ROOT / "suites").glob("*.yaml"))


def test_the_suites_are_there() -> None:
    assert [path.stem for path in SUITES] == [
        "calibration", "enwik-sample", "enwik8", "hutter-prize", "ptb-char", "ptb-word", "wikitext-103", "wikitext-2",
    ]  # fmt: skip


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_profile_loads_and_resolves(path: Path, tmp_path: Path) -> None:
    suite = load(path)
    if "file" in suite.dataset:
        own = tmp_path / suite.dataset["file"]
        own.parent.mkdir()
        own.write_bytes(bytes(range(256)))
    assert suite.name == path.stem
    assert suite.profiles[:2] == ("full", "quick")
    trained = [profile for profile in suite.profiles if not profile.endswith("-dynamic")]
    for profile in trained:
        specs = resolve(load(path, profile=profile), device="cpu", roots=[tmp_path])
        assert specs
        assert len({spec.run_id for spec in specs}) == len(specs)


@pytest.mark.parametrize(("name", "profile"), [("ptb-char", "quick-dynamic")])
def test_a_profile_that_adapts_scores_the_weights_that_its_twin_trains(name: str, profile: str) -> None:
    path = ROOT / "suites" / f"{name}.yaml"
    twins = {spec.label.entry: spec for spec in resolve(load(path, profile=profile.split("-")[0]), device="cpu")}
    for entry in load(path, profile=profile).entries:
        twin = twins[entry.name]
        assert entry.adaptive is not None
        assert (entry.recipe, entry.model) == (None, twin.model)
        assert entry.checkpoint == f"../results/runs/{twin.run_id}/checkpoints/best"


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_editors_are_told_of_the_schema(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=suite.schema.json\n")


def test_the_suites_to_search_from_are_what_they_say() -> None:
    """The small QRNN for the CPU, and the LSTM that is to go below the paper with no more parameters."""
    folder = ROOT / "suites" / "search"
    assert [path.stem for path in sorted(folder.glob("*.yaml"))] == ["ptb-char-beyond", "ptb-char-qrnn-6x256"]
    [small], [beyond] = (load(folder / f"{name}.yaml").entries for name in ("ptb-char-qrnn-6x256", "ptb-char-beyond"))
    assert (small.model["layers"], small.model["hidden"], small.published) == (6, 256, None)
    full = next(entry for entry in load(ROOT / "suites" / "ptb-char.yaml").entries if entry.name == "awd-lstm")
    assert beyond.model == full.model
    assert load(folder / "ptb-char-qrnn-6x256.yaml").evaluation.splits == ("valid",)
    for path in folder.glob("*.yaml"):
        assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=../suite.schema.json\n")


OFFICIAL = {
    # suite, entry: layers, hidden, embedding, lr, decay_at, epochs, bptt, dropout i / h / o, weight drop
    ("ptb-char", "awd-lstm"): (3, 1000, 200, 2e-3, [300, 400], 500, 150, (0.1, 0.25, 0.1), 0.5),
    ("enwik8", "awd-lstm"): (3, 1840, 400, 1e-3, [25, 35], 50, 200, (0.1, 0.1, 0.4), 0.2),
    ("hutter-prize", "awd-lstm"): (3, 1840, 400, 1e-3, [25, 35], 50, 200, (0.1, 0.1, 0.4), 0.2),
}


@pytest.mark.parametrize(("suite", "name"), OFFICIAL)
def test_the_default_profile_is_the_official_recipe(suite: str, name: str) -> None:
    (entry,) = [each for each in load(ROOT / "suites" / f"{suite}.yaml").entries if each.name == name]
    model, recipe = entry.model, entry.recipe
    assert recipe is not None
    drop = model["dropout"]
    assert (
        model["layers"], model["hidden"], model["embedding"], recipe.lr, list(recipe.decay_at), recipe.epochs,
        recipe.bptt, (drop["input"], drop["hidden"], drop["output"]), drop["weight"],
    ) == OFFICIAL[suite, name]  # fmt: skip
    assert (recipe.optimizer, recipe.batch, recipe.clip, recipe.weight_decay) == ("adam", 128, 0.25, 1.2e-6)
    assert (drop["embedding"], model["ar"], model["tar"], model["tie"]) == (0, 0, 0, True)
    assert recipe.windows == WindowSampling(half_probability=0.05, std=5.0, minimum=5, scale_lr=True)
    assert recipe.decay_factor == 0.1
    assert recipe.schedule.kind == "constant"


WORDS = {
    # suite, entry: parameters, epochs, batch, bptt, clip, dropout e / i / h / o / weight, AR, TAR
    ("ptb-word", "awd-lstm"): (24_221_600, 500, 20, 70, 0.25, (0.1, 0.4, 0.25, 0.4, 0.5), 2, 1),
    ("ptb-word", "qrnn"): (24_020_150, 550, 20, 70, 0.2, (0.1, 0.4, 0.3, 0.4, 0.1), 2, 1),
    ("wikitext-2", "awd-lstm"): (33_556_078, 750, 80, 70, 0.25, (0.1, 0.65, 0.2, 0.4, 0.5), 2, 1),
    ("wikitext-2", "qrnn"): (33_354_628, 500, 40, 70, 0.25, (0.1, 0.4, 0.2, 0.4, 0.1), 2, 1),
    ("wikitext-103", "qrnn"): (153_886_638, 14, 60, 140, 0.25, (0, 0.1, 0.1, 0.1, 0), 0, 0),
}


@pytest.mark.parametrize(("suite", "name"), WORDS)
def test_word_models_train_by_the_official_recipe(suite: str, name: str) -> None:
    path = ROOT / "suites" / f"{suite}.yaml"
    (entry,) = [each for each in load(path).entries if each.name == name]
    model, recipe = entry.model, entry.recipe
    assert recipe is not None
    (row,) = [each for each in describe(load(path)) if each["entry"] == name]
    drop = tuple(model["dropout"][place] for place in ("embedding", "input", "hidden", "output", "weight"))
    assert (
        row["parameters"], recipe.epochs, recipe.batch, recipe.bptt, recipe.clip, drop,
        model["ar"], model["tar"],
    ) == WORDS[suite, name]  # fmt: skip
    assert recipe.windows == WindowSampling(half_probability=0.05, std=5.0, minimum=5, scale_lr=True)
    if suite == "wikitext-103":
        assert (recipe.optimizer, recipe.lr, list(recipe.decay_at), recipe.weight_decay) == (
            "adam",
            1e-3,
            [12],
            0,
        )
        assert model["cutoffs"] == [2800, 20_000, 76_000]
        assert entry.published == "wikitext-103/qrnn"
    else:
        assert (recipe.optimizer, recipe.lr, list(recipe.decay_at), recipe.weight_decay) == (
            "sgd",
            30,
            [],
            1.2e-6,
        )
        assert recipe.averaging == Averaging(patience=5)
        assert recipe.finetune == Finetune(epochs=recipe.epochs, patience=5)
        assert "cutoffs" not in model


def test_an_averaged_recipe_is_among_the_quick_ones() -> None:
    quick = load(ROOT / "suites" / "ptb-word.yaml", profile="quick").entries
    assert any(entry.recipe and entry.recipe.averaging for entry in quick)


def test_the_same_data_and_recipe_under_two_names_is_one_run() -> None:
    for profile in ("full", "quick"):
        enwik8, hutter = (
            resolve(load(ROOT / "suites" / f"{name}.yaml", profile=profile), device="cpu")[0]
            for name in ("enwik8", "hutter-prize")
        )
        assert enwik8.run_id == hutter.run_id
        assert (enwik8.label.dataset, hutter.label.dataset) == ("enwik8", "Hutter Prize")
        assert hutter.label.published == "hutter-prize/awd-lstm"


def test_the_oracle_is_that_of_the_calibration_source() -> None:
    for profile in ("full", "quick"):
        suite = load(ROOT / "suites" / "calibration.yaml", profile=profile)
        oracle = next(entry for entry in suite.entries if entry.name == "oracle")
        for key in ("order", "symbols", "concentration", "seed"):
            assert oracle.model[key] == suite.dataset[key]
        assert suite.dataset["order"] >= 2
        assert suite.dataset["symbols"] >= 16
