"""The suites of the project say what the papers and the official code say. test_run_ids.py covers every other value."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.config.recipe import Averaging, Finetune, WindowSampling
from harness.core.specs import Entry
from harness.suite import dry_run, load, resolve
from harness.system import hardware
from harness.system.source import ROOT

SUITES = ROOT / "suites"


def entry_of(suite: str, name: str) -> Entry:
    (entry,) = [each for each in load(SUITES / f"{suite}.yaml").entries if each.name == name]
    return entry


@pytest.mark.parametrize("path", sorted(SUITES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_a_suite_has_its_files_name_and_names_the_schema_for_editors(path: Path) -> None:
    suite = load(path)
    assert suite.name == path.stem
    # Searches and tracks have one budget each, and no smaller profile.
    is_inner = path.parent != SUITES
    assert is_inner or suite.profiles[:2] == ("full", "quick")
    schema = "../suite.schema.json" if is_inner else "suite.schema.json"
    assert path.read_text(encoding="utf-8").startswith(f"# yaml-language-server: $schema={schema}\n")


def test_a_profile_that_adapts_scores_the_weights_that_its_twin_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    # The committed weights were trained in what `dtype: auto` is there.
    monkeypatch.setattr(hardware, "bfloat16_products", lambda: "faster than float32")
    path = SUITES / "ptb-char.yaml"
    twins = {spec.label.entry: spec for spec in resolve(load(path, profile="quick"), device="cpu")}
    for entry in load(path, profile="quick-dynamic").entries:
        twin = twins[entry.name]
        assert entry.adaptive is not None
        assert (entry.recipe, entry.model) == (None, twin.model)
        assert entry.checkpoint == f"../results/runs/{twin.run_id}/checkpoints/best"


def test_the_track_begins_with_the_quick_profiles() -> None:
    """Their records are those of equal runs."""
    quick = resolve(load(SUITES / "ptb-char.yaml", profile="quick"), device="cpu")
    known = {(spec.label.entry, spec.seed): spec.run_id for spec in quick}
    track = resolve(load(SUITES / "tracks" / "ptb-char-480s.yaml"), device="cpu")
    assert [spec.seed for spec in track] == [1, 2, 3] * 2
    assert [spec.run_id for spec in track if spec.seed == 1] == [known["awd-lstm", 1], known["qrnn", 1]]


def test_the_lstm_to_search_from_is_the_papers() -> None:
    assert entry_of("search/ptb-char-beyond", "awd-lstm").model == entry_of("ptb-char", "awd-lstm").model


# suite, entry: layers, hidden, embedding, lr, decay_at, epochs, bptt, dropout i / h / o, weight drop
OFFICIAL = {
    ("ptb-char", "awd-lstm"): (3, 1000, 200, 2e-3, (300, 400), 500, 150, (0.1, 0.25, 0.1), 0.5),
    ("enwik8", "awd-lstm"): (3, 1840, 400, 1e-3, (25, 35), 50, 200, (0.1, 0.1, 0.4), 0.2),
    ("hutter-prize", "awd-lstm"): (3, 1840, 400, 1e-3, (25, 35), 50, 200, (0.1, 0.1, 0.4), 0.2),
}


@pytest.mark.parametrize(("suite", "name"), OFFICIAL)
def test_the_default_profile_is_the_official_recipe(suite: str, name: str) -> None:
    entry = entry_of(suite, name)
    model, recipe = entry.model, entry.recipe
    assert recipe is not None
    drop = model["dropout"]
    assert (
        model["layers"], model["hidden"], model["embedding"], recipe.lr, recipe.decay_at, recipe.epochs, recipe.bptt,
        (drop["input"], drop["hidden"], drop["output"]), drop["weight"],
    ) == OFFICIAL[suite, name]  # fmt: skip
    assert (recipe.optimizer, recipe.batch, recipe.clip, recipe.weight_decay) == ("adam", 128, 0.25, 1.2e-6)
    assert (drop["embedding"], model["ar"], model["tar"], model["tie"]) == (0, 0, 0, True)
    assert recipe.windows == WindowSampling(half_probability=0.05, std=5.0, minimum=5, scale_lr=True)
    assert (recipe.decay_factor, recipe.schedule.kind) == (0.1, "constant")


# suite, entry: parameters, epochs, batch, bptt, clip, dropout e / i / h / o / weight, AR, TAR
WORDS = {
    ("ptb-word", "awd-lstm"): (24_221_600, 500, 20, 70, 0.25, (0.1, 0.4, 0.25, 0.4, 0.5), 2, 1),
    ("ptb-word", "qrnn"): (24_020_150, 550, 20, 70, 0.2, (0.1, 0.4, 0.3, 0.4, 0.1), 2, 1),
    ("wikitext-2", "awd-lstm"): (33_556_078, 750, 80, 70, 0.25, (0.1, 0.65, 0.2, 0.4, 0.5), 2, 1),
    ("wikitext-2", "qrnn"): (33_354_628, 500, 40, 70, 0.25, (0.1, 0.4, 0.2, 0.4, 0.1), 2, 1),
    ("wikitext-103", "qrnn"): (153_886_638, 14, 60, 140, 0.25, (0, 0.1, 0.1, 0.1, 0), 0, 0),
}


@pytest.mark.parametrize(("suite", "name"), WORDS)
def test_word_models_train_by_the_official_recipe(suite: str, name: str) -> None:
    entry = entry_of(suite, name)
    model, recipe = entry.model, entry.recipe
    assert recipe is not None
    (row,) = [each for each in dry_run.estimate(load(SUITES / f"{suite}.yaml")) if each.entry == name]
    drop = tuple(model["dropout"][place] for place in ("embedding", "input", "hidden", "output", "weight"))
    assert (
        row.parameters, recipe.epochs, recipe.batch, recipe.bptt, recipe.clip, drop, model["ar"], model["tar"],
    ) == WORDS[suite, name]  # fmt: skip
    assert recipe.windows == WindowSampling(half_probability=0.05, std=5.0, minimum=5, scale_lr=True)
    optimiser = (recipe.optimizer, recipe.lr, recipe.decay_at, recipe.weight_decay)
    if suite == "wikitext-103":
        assert optimiser == ("adam", 1e-3, (12,), 0)
        assert model["cutoffs"] == [2800, 20_000, 76_000]
    else:
        assert optimiser == ("sgd", 30, (), 1.2e-6)
        assert recipe.averaging == Averaging(kind="non-monotone", patience=5)
        epochs = 300 if (suite, name) == ("ptb-word", "qrnn") else recipe.epochs or 0
        assert recipe.finetune == Finetune(epochs=epochs, patience=5, cap_windows=True)
        assert "cutoffs" not in model


@pytest.mark.parametrize("profile", ["full", "quick"])
def test_the_same_data_and_recipe_under_two_names_is_one_run(profile: str) -> None:
    [enwik8, *others], [hutter, *same] = (
        resolve(load(SUITES / f"{name}.yaml", profile=profile), device="cpu") for name in ("enwik8", "hutter-prize")
    )
    assert enwik8.run_id == hutter.run_id
    assert [spec.run_id for spec in others] == [spec.run_id for spec in same]
    assert (enwik8.label.dataset, hutter.label.dataset) == ("enwik8", "Hutter Prize")
    assert hutter.label.published == "hutter-prize/awd-lstm"
