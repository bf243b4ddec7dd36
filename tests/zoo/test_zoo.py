"""Every cheat is caught by the check that is named for it, and no honest model is accused, over several seeds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import cheats
import numpy as np
import psutil
import pytest
import torch

import harness
import lm_models
from harness.checkpoints import format
from harness.checkpoints.model import model_config
from harness.core.audits import ScoreAudit
from harness.core.config.evaluation import DynamicSgd, Evaluation, NeuralCache
from harness.core.interfaces import LoadedModel
from harness.core.scores import Score
from harness.evaluation import protocols
from harness.evaluation.adaptive.methods import CacheMethod, DynamicMethod, Method
from harness.evaluation.audit import places, report
from harness.evaluation.audit.sealed import Sealed
from harness.evaluation.scoring import EvaluationRequest, TextSource
from harness.evaluation.token_text import TokenText
from lm_models.plugin.adapter import Adapter

pytest.importorskip("constriction", reason="the extra audit is not installed")

VOCABULARY = [chr(97 + number) for number in range(12)]
SEEDS = [*range(2), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 25))]
EXACT = protocols.exact(32)
STRETCH = 30

MODELS = [
    (cheats.Unnormalised, "mass"),
    (cheats.HashedTarget, "mass"),
    (cheats.CoolTarget, "loss"),
    (cheats.LeaksTarget, "loss"),
    (cheats.BitsForNats, "loss"),
    (cheats.OnlyEasy, "loss"),
    (cheats.Shaves, "loss, in place"),
    (cheats.ShavesScoring, "in place"),
    (cheats.FreeNewlines, "loss"),
    (cheats.LooksAhead, "causality"),
    (cheats.Centred, "causality"),
    (cheats.AdaptsFirst, "causality"),
    (cheats.Batched, "invariance"),
    (cheats.Remembers, "coder"),
    (cheats.ReadsText, "sealed"),
    (cheats.KeepsForDecoding, "in place, coder"),
    (cheats.HonestAtFirst, "in place"),
    (cheats.KnowsThatItIsRead, "in place"),
    (cheats.ReadsInCopy, "sealed"),
    (cheats.Unreadable, "coder"),
    (cheats.Random, "coder"),
    (cheats.NotANumber, "mass"),
]
BUILDERS = [
    {"builder": "awd-lstm", "layers": 2, "hidden": 8, "embedding": 8},
    {"builder": "awd-lstm", "layers": 1, "hidden": 8, "embedding": 8, "cutoffs": [4, 8]},
    {"builder": "qrnn", "layers": 2, "hidden": 8, "embedding": 8},
    {"builder": "mingru", "layers": 2, "hidden": 8, "embedding": 8},
    {"builder": "transformer", "layers": 1, "hidden": 8, "heads": 2, "feed_forward": 16, "memory": 16},
    {"builder": "transformer", "layers": 1, "hidden": 8, "heads": 2, "feed_forward": 16, "context": 16, "stride": 8},
    {"builder": "markov-oracle", "order": 2, "symbols": len(VOCABULARY), "concentration": 0.3, "seed": 0},
]
DYNAMIC, CACHE = DynamicSgd(lr=(0.5,)), NeuralCache(window=(50,), theta=(0.3,), interpolation=(0.2,))


def drawn(seed: int, num_tokens: int = 70) -> np.ndarray:
    return np.random.default_rng(seed).integers(len(VOCABULARY), size=num_tokens)


def loaded_of(model: Any, dtype: str = "float32") -> LoadedModel:
    return LoadedModel(Path("zoo"), model.eval(), {}, dtype, dtype, VOCABULARY, "char", "0" * 64, "cpu")


def audited(
    model: Any,
    seed: int,
    folder: Path,
    dtype: str = "float32",
    num_tokens: int = 70,
    stretch: int = STRETCH,
    window: int = 32,
) -> report.Audit:
    path = folder / "text"
    path.write_text("".join(VOCABULARY[each] for each in drawn(seed, num_tokens)))
    return report.audit(EvaluationRequest(model=loaded_of(model, dtype), text=path, window=window), stretch=stretch)


def plugin(kind: type[harness.Model], seed: int) -> Adapter:
    torch.manual_seed(seed)
    return Adapter(kind(len(VOCABULARY)))


def failed(audit: report.Audit | ScoreAudit) -> set[str]:
    return {check.name for check in audit.checks if not check.passed}


def scored(model: Any, ids: np.ndarray, split: str = "test") -> Score:
    made = protocols.score(model, ids, EXACT)
    return protocols.to_score(made, split, EXACT, (), 0.0, protocols.measure(ids, EXACT, sizes()))


def sizes() -> Any:
    return TokenText.of(VOCABULARY, "char")


def audited_claim(model: Any, claimed: Score, ids: np.ndarray, how: Any = EXACT) -> ScoreAudit:
    return report.audit_score(
        loaded_of(model), claimed, TextSource(ids, "drawn"), how=how, stretch=STRETCH, sealed=Sealed()
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("kind", "by"), MODELS)
def test_a_cheat_is_caught_by_its_check(kind: type[harness.Model], by: str, seed: int, tmp_path: Path) -> None:
    cheats.ReadsText.path = cheats.ReadsInCopy.path = tmp_path / "text"
    cheats.KeepsForDecoding.seen.clear()
    audit = audited(plugin(kind, seed), seed, tmp_path)
    assert set(by.split(", ")) <= failed(audit), [(check.name, check.figure, check.detail) for check in audit.checks]
    assert "exactly once" not in failed(audit)
    assert not audit.passed


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 25))])
@pytest.mark.parametrize("kind", [cheats.LateInWindows, cheats.LateInWindowsWithoutState])
def test_a_cheat_late_in_each_long_window_is_caught_in_place(
    kind: type[harness.Model], seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 8 targets of 8 windows: all of them are in the honest eighths once in a million times.
    monkeypatch.setattr(places, "_STEPS", 64)
    audit = audited(plugin(kind, seed), seed, tmp_path, num_tokens=5_000, window=512)
    assert "in place" in failed(audit)


def test_a_model_that_hangs_where_it_is_compared_ends_the_check_and_not_the_audit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "_SECONDS", 0.1)
    monkeypatch.setattr(places, "_FACTOR", 0)
    before = psutil.Process().children()
    audit = audited(plugin(cheats.Hangs, 0), 0, tmp_path)
    assert failed(audit) == {"in place"}
    [detail] = [check.detail for check in audit.checks if not check.passed]
    assert detail == "the copy of the process that reads token by token has not ended in 0 s"
    assert psutil.Process().children() == before, "a copy is left"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("change", cheats.CLAIMS.values(), ids=cheats.CLAIMS)
def test_a_changed_score_is_caught_by_its_claim(change: Callable[[Score], Score], seed: int) -> None:
    model, ids = plugin(cheats.Honest, seed), drawn(seed)
    honest = scored(model, ids)
    assert failed(audited_claim(model, honest, ids)) == set()
    assert failed(audited_claim(model, change(honest), ids)) == {"claim"}


@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_model_kept_of_another_split_is_caught_by_the_claim(seed: int) -> None:
    model, valid = plugin(cheats.Remembers, seed), drawn(seed)
    test = np.concatenate([valid[10:40], drawn(seed + 100, 30)])
    fresh = plugin(cheats.Remembers, seed)
    scored(model, valid, "valid")
    assert "claim" in failed(audited_claim(fresh, scored(model, test), test))


@pytest.mark.parametrize("seed", SEEDS)
def test_an_adaptation_to_the_text_before_it_is_scored_is_caught_as_no_single_pass(seed: int) -> None:
    model, ids = plugin(cheats.Honest, seed), drawn(seed)
    claimed = adapted(cheats.TwoPass(model, DYNAMIC), ids)
    assert "single pass" in failed(audited_claim(model, claimed, ids, cheats.TwoPass(model, DYNAMIC)))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_model_that_is_honest_when_it_is_audited_is_caught_by_the_claim(seed: int) -> None:
    model, ids = plugin(cheats.KnowsItsCaller, seed), drawn(seed)
    assert "claim" in failed(audited_claim(model, scored(model, ids), ids))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_model_that_fails_when_it_is_scored_again_is_caught_by_the_claim(seed: int) -> None:
    model, ids = plugin(cheats.Honest, seed), drawn(seed)
    honest = scored(model, ids)
    model.model.logits = None
    assert failed(audited_claim(model, honest, ids)) == {"claim"}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("patch", cheats.SCORING.values(), ids=cheats.SCORING)
def test_scoring_that_a_model_replaced_is_caught_by_exactly_once(
    patch: Callable[..., Any], seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the targets that are coded, nothing else shows it."""
    monkeypatch.setattr(protocols, "_all_targets", patch(protocols._all_targets))
    assert failed(audited(plugin(cheats.Honest, seed), seed, tmp_path)) == {"exactly once"}


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 25))])
def test_a_model_that_reads_the_text_when_it_is_built_is_caught(seed: int, tmp_path: Path) -> None:
    path = cheats.ReadsAtStart.path = tmp_path / "text"
    path.write_text("".join(VOCABULARY[each] for each in drawn(seed)))
    index = {"model": {"builder": "cheats:ReadsAtStart"}, "vocabulary": VOCABULARY, "unit": "char"}
    format.save(tmp_path / "c", {"model": plugin(cheats.ReadsAtStart, seed).state_dict()}, index)
    audit = harness.audit(tmp_path / "c", text=path, device="cpu", stretch=STRETCH)
    assert audit.nll_nats < 10
    assert failed(audit) >= {"sealed"}


COPIES = {
    "text": lambda ids: "".join(VOCABULARY[each] for each in ids).encode(),
    "lines": lambda ids: " ".join(VOCABULARY[each] for each in ids).replace(" ", " \n ", 9).encode(),
    "bytes": lambda ids: ids.astype("u1").tobytes(),
    "numbers": lambda ids: ids.astype("<i8").tobytes(),
}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_copy_of_the_text_in_a_file_of_the_model_is_caught(seed: int, tmp_path: Path) -> None:
    form = list(COPIES)[seed % len(COPIES)]
    model = plugin(cheats.OpensFile, seed)
    model.model.path = tmp_path / "table.bin"
    model.model.path.write_bytes(b"\0head" + COPIES[form](drawn(seed)) + b"tail")
    assert failed(audited(model, seed, tmp_path)) == {"sealed"}
    # Another text, as the one that a model was trained on.
    model.model.path.write_bytes(COPIES[form](drawn(seed + 1)))
    assert failed(audited(model, seed, tmp_path)) == set()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_copy_of_the_text_in_the_tensors_of_the_model_is_caught(seed: int, tmp_path: Path) -> None:
    model = plugin(cheats.Honest, seed)
    model.model.register_buffer("table", torch.from_numpy(drawn(seed)).to(torch.int16))
    assert failed(audited(model, seed, tmp_path)) == {"sealed"}
    model.model.table[::9] += 1
    assert failed(audited(model, seed, tmp_path)) == set()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_copy_of_the_text_in_the_source_of_the_model_is_caught(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    name, text = f"holds_text_{seed}", COPIES["text"](drawn(seed)).decode()
    (tmp_path / f"{name}_table.py").write_text(f"TEXT = {text!r}\n")
    (tmp_path / f"{name}.py").write_text(f"import cheats\nimport {name}_table\n\n\nclass Holds(cheats.Honest): ...\n")
    assert failed(audited(plugin(import_module(name).Holds, seed), seed, tmp_path)) == {"sealed"}


def adapted(method: Method, ids: np.ndarray) -> Score:
    setting = method.config.settings()[0]  # type: ignore[attr-defined]
    made = method.score(ids, setting, None)
    score = protocols.to_score(made, "test", method.protocol, (), 0.0, protocols.measure(ids, method.protocol, sizes()))
    return replace(score, adaptation={"chosen": setting})


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "make",
    [lambda model: DynamicMethod(model, DYNAMIC), lambda model: CacheMethod(model, CACHE, 64)],
    ids=["dynamic", "cache"],
)
def test_an_adaptive_protocol_passes(make: Callable[[Any], Method], seed: int) -> None:
    model, ids = plugin(cheats.Honest, seed).eval(), drawn(seed)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    audit = audited_claim(model, adapted(make(model), ids), ids, make(model))
    assert failed(audit) == set(), audit.checks
    assert [check.name for check in audit.checks] == [
        "claim", "mass", "loss", "single pass", "exactly once", "coder", "sealed",
    ]  # fmt: skip
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", [cheats.Honest, cheats.Windowed])
def test_an_honest_model_from_outside_passes(kind: type[harness.Model], seed: int, tmp_path: Path) -> None:
    audit = audited(plugin(kind, seed), seed, tmp_path)
    assert failed(audit) == set()
    assert audit.passed
    assert (audit.num_targets, audit.num_coded) == (69, STRETCH)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 25))])
def test_rounding_to_16_bits_passes_and_a_loss_that_is_shaved_as_much_does_not(seed: int, tmp_path: Path) -> None:
    honest, shaved = (plugin(kind, seed).to(torch.bfloat16) for kind in (cheats.Rounds, cheats.ShavesRounded))
    assert failed(audited(honest, seed, tmp_path, "bfloat16")) == set()
    assert failed(audited(shaved, seed, tmp_path, "bfloat16")) == {"loss", "in place"}


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 25))])
@pytest.mark.parametrize("block", BUILDERS, ids=lambda block: f"{block['builder']}-{len(block)}")
def test_a_builder_passes(block: dict[str, Any], seed: int, tmp_path: Path) -> None:
    torch.manual_seed(seed)
    model = lm_models.build(block["builder"], model_config(block), vocab_size=len(VOCABULARY))
    # Far from equal probabilities, as a trained model is.
    model.load_state_dict({name: 3 * value for name, value in model.state_dict().items()})
    dtype = "float64" if block["builder"] == "markov-oracle" else "float32"
    assert failed(audited(model, seed, tmp_path, dtype)) == set()


@pytest.mark.parametrize("name", ["exact", "streams"])
def test_the_protocols_of_a_suite_pass(name: str) -> None:
    evaluation = Evaluation(protocols=("exact", "streams"), streams=4, warmup=20, window=32)
    how, ids = protocols.protocol_for(name, "test", evaluation), drawn(0)
    model = plugin(cheats.Honest, 0)
    claimed = protocols.to_score(
        protocols.score(model, ids, how), "test", how, (), 0.0, protocols.measure(ids, how, sizes())
    )
    assert failed(audited_claim(model, claimed, ids, how)) == set()


def test_a_figure_is_what_was_planted(tmp_path: Path) -> None:
    audit = audited(plugin(cheats.Unnormalised, 0), 0, tmp_path, num_tokens=600, stretch=599)
    checks = {check.name: check for check in audit.checks}
    assert checks["mass"].figure == pytest.approx(0.1, abs=1e-5)
    # Each target claims log2 1.1 bits too few; the coder ends within two words of what it takes.
    assert checks["coder"].figure == pytest.approx(599 * math.log2(1.1), abs=64)


def test_a_text_of_two_tokens_is_audited(tmp_path: Path) -> None:
    assert audited(plugin(cheats.Honest, 0), 0, tmp_path, num_tokens=2).passed
