"""The `space` of an entry: what is refused when the suite is loaded, with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import SuiteError
from harness.suite import load, resolve

SUITE = """suite: small
dataset: {kind: markov, order: 1, symbols: 5, train: 3000, valid: 500, test: 500}
metrics: [bpc]
entries:
  qrnn:
    model: {builder: qrnn, layers: 2, hidden: 8, embedding: 6}
    recipe: {optimizer: adam, lr: 1e-2, batch: 8, bptt: 20, tokens: 640}
"""


def with_space(path: Path, *lines: str) -> Path:
    path.write_text(SUITE + "    space:\n" + "".join(f"      {line}\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["recipe.lrr: {uniform: [1, 2]}"], "9: entries.qrnn.recipe 'lrr' is unknown. Did you mean 'lr'?"),
        (["recipe.lr: {uniform: [-1, 2]}"], "9: entries.qrnn.recipe.lr must be positive, got -1.0 (in "),
        (["model.dropout.weight: {uniform: [0, 1]}"], "entries.qrnn.model.dropout.weight must be in [0, 1)"),
        (["model.layers: {uniform: [1, 2.5]}"], "entries.qrnn.space.model.layers at 2.5"),
        (["recipe.batch: {uniform: [4, 8]}"], "9: entries.qrnn.recipe.batch must be a whole number, got 4.382 (in "),
        (["recipe.batch: {log_uniform: [400, 8000]}"], "entries.qrnn.space.recipe.batch at 400.4"),
        (["recipe.lr: {uniform: [2, 1]}"], "uniform must rise from a least to a greatest number, got [2.0, 1.0]"),
        (["recipe.lr: {log_uniform: [0, 1]}"], "log_uniform must be positive, got [0.0, 1.0]"),
        (["recipe.lr: {uniform: [1, 2], choice: [1]}"], "must have one of uniform, log_uniform, integer, log_integer"),
        (["recipe.lr: {}"], "got none"),
        (["recipe.lr: {uniformly: [1, 2]}"], "'uniformly' is unknown. Did you mean 'uniform'?"),
        (["recipe.optimizer: {choice: [adam, sdg]}"], "entries.qrnn.recipe.optimizer 'sdg' is unknown. Did you mean"),
        (["recipe.lr: {choice: [1e-3, 1e-3]}"], "choice names a value twice: 0.001, 0.001"),
        (["published: {choice: [a]}"], "entries.qrnn.space.published cannot be searched: a search changes model"),
        (
            ["recipe.lr: {uniform: [1, 2], when: {recipe.clip: 1}}", "recipe.clip: {choice: [0, 1]}"],
            "entries.qrnn.space.recipe.lr.when 'recipe.clip' is no key of the space above this one",
        ),
        (
            ["recipe.clip: {choice: [0, 1]}", "recipe.lr: {uniform: [1, 2], when: {recipe.clip: 2}}"],
            "10: entries.qrnn.space.recipe.lr.when recipe.clip is never 2: it is one of 0, 1",
        ),
        (
            ["recipe.clip: {uniform: [0, 1]}", "recipe.lr: {uniform: [1, 2], when: {recipe.clip: 0.5}}"],
            "real numbers, which a condition cannot name",
        ),
        (
            ["model.layers: {integer: [1, 2]}", "model: {choice: [{layers: 3}]}"],
            "9: entries.qrnn.space.model.layers is a key of model, which is searched as well",
        ),
        (
            ["recipe.optimizer: {choice: [adam, sgd]}", "recipe.lr: {uniform: [1, 2], when: {recipe.optimizer: []}}"],
            "10: entries.qrnn.space.recipe.lr.when must name at least one value of recipe.optimizer",
        ),
    ],
)
def test_a_wrong_space_is_one_line_with_its_place(tmp_path: Path, lines: list[str], said: str) -> None:
    with pytest.raises(SuiteError) as caught:
        load(with_space(tmp_path / "small.yaml", *lines))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_that_is_valid_under_its_condition_alone_is_checked_under_it(tmp_path: Path) -> None:
    lines = (
        "recipe.optimizer: {choice: [adam, sgd]}",
        "recipe.averaging: {choice: [null, {patience: 5}], when: {recipe.optimizer: [sgd]}}",
    )
    suite = load(with_space(tmp_path / "small.yaml", *lines))
    assert suite.entries[0].space["recipe.averaging"].texts == ("null", '{"patience": 5}')
    with pytest.raises(SuiteError, match="averaging needs optimizer: sgd"):
        load(with_space(tmp_path / "small.yaml", lines[1].replace(", when: {recipe.optimizer: [sgd]}", "")))


def test_a_space_changes_no_run_id(tmp_path: Path) -> None:
    (tmp_path / "plain.yaml").write_text(SUITE)
    plain = resolve(load(tmp_path / "plain.yaml"), device="cpu")
    spaced = resolve(load(with_space(tmp_path / "small.yaml", "recipe.lr: {uniform: [1, 2]}")), device="cpu")
    assert [spec.run_id for spec in plain] == [spec.run_id for spec in spaced]
