"""Estimate what a suite would do: model sizes, steps, FLOPs, memory, and the place its data would come from.

Everything follows from the suite, the models' formulas and the datasets' known counts: nothing is prepared or built,
and torch is not imported. Letters: T time, B stream.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import get_args

from harness import data
from harness.core.config.evaluation import CODING, WHOLE, Evaluation, ProtocolName
from harness.core.config.recipe import Recipe, WindowSampling
from harness.core.errors import DataError, SuiteError
from harness.core.specs import Entry, RunSpec, Suite
from harness.suite import rules
from harness.suite.resolve import evaluation_of
from harness.system import hardware
from lm_models import PRETRAINED, ModelConfig, is_fitted
from lm_models.awd_lstm.config import Config as LstmConfig
from lm_models.config import KEPT_LOGITS, PART_LOGITS, RecurrentConfig, softmax_columns

OPTIMIZER_MOMENTS = {"adam": 2, "sgd": 0}
OFFICIAL_STREAMS = {"train": 10, "valid": 10, "test": 1}  # batch sizes of awd-lstm-lm's main.py


# Speeds of one core of a recent CPU, rough: large matrix products; products with one row, which read every weight for
# each token; and what a layer takes for a token in addition. Measured runs differ by a factor of up to 3.
PRODUCTS_FLOPS, ROW_FLOPS, LAYER_S = 5e10, 1.2e10, 1e-6
# `exact` scores an LSTM on a text of more targets than these in so many pieces, of so many tokens together in a window:
# `harness.evaluation.joined`.
PIECES, TARGETS_IN_ORDER, PIECES_TOKENS = 16, 4_096, 1 << 13
# An audit scores again, in one stream, and reads this many targets twice, one at a time: `harness.worker.audit`.
AUDIT_TARGETS, AUDIT_TARGET_S = 2_000, 3e-4


@dataclass(frozen=True, slots=True)
class Targets:
    """Targets that one protocol scores on one split; None if the data is not known yet.

    `cpu_seconds` is about what scoring them takes on this machine's CPU, and `audit_cpu_seconds` what their audit
    takes, if the suite asks for one; None for adaptive protocols.
    """

    split: str
    protocol: str
    targets: int | None
    cpu_seconds: float | None = None
    audit_cpu_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What one entry of a suite would do with one seed; None for what cannot be known yet, with a `reason`.

    `optimizer_steps_are_expected` where window lengths are drawn at random; `training_flops_are_expected` where they
    depend on how often the text's words fall into a tail of the softmax. The fields are the keys of the JSON output.
    """

    suite: str
    profile: str
    entry: str
    title: str
    dataset: str
    builder: str
    seeds: tuple[int, ...]
    dtype: str
    vocab_size: int | None
    parameters: int | None = None
    tokens_per_epoch: int | None = None
    training_tokens: int | None = None
    epochs: float | None = None
    optimizer_steps: int | None = None
    optimizer_steps_are_expected: bool | None = None
    training_flops: int | None = None
    training_cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    training_flops_are_expected: bool = False
    evaluation: tuple[Targets, ...]
    data: str
    reason: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class TrainingLength:
    """Length of a training. One token is one trained target; `is_expected` where window lengths are drawn."""

    tokens_per_epoch: int
    num_tokens: int
    num_steps: int
    is_expected: bool


@dataclass(frozen=True, slots=True)
class _TextSize:
    """Vocabulary and tokens per split of a dataset, or the reason why they are not known."""

    vocab_size: int | None = None
    num_tokens: Mapping[str, int] | None = None
    reason: str | None = None


def estimate(suite: Suite, roots: Sequence[Path] = ()) -> list[Estimate]:
    """Estimate every entry of a suite.

    Args:
        suite: a suite under its profile.
        roots: folders to search for the user's own data.

    Returns:
        One estimate per entry, in the suite's order.

    Raises:
        SuiteError: a model does not fit the dataset's vocabulary.
    """
    from harness.data import status  # which a run does not need

    text = _text_size(suite, roots)
    source = status.where(suite.dataset, roots, suite.path.parent)
    return [_estimate(suite, entry, text, source) for entry in suite.entries]


def _estimate(suite: Suite, entry: Entry, text: _TextSize, source: str) -> Estimate:
    evaluation = evaluation_of(suite, entry)
    row = Estimate(
        suite=suite.name,
        profile=suite.profile,
        entry=entry.name,
        title=entry.title,
        dataset=suite.dataset_title,
        builder=entry.model["builder"],
        seeds=suite.seeds if entry.recipe is not None else suite.seeds[:1],
        dtype=entry.dtype,
        vocab_size=text.vocab_size,
        evaluation=_targets(evaluation, text.num_tokens),
        data=source,
        reason=text.reason,
        note=rules.unused_setting(entry.model),
    )
    if entry.model["builder"] in PRETRAINED:
        scored = _targets(evaluation, None)
        return replace(row, vocab_size=None, evaluation=scored, reason="its size and its tokens are its own files'")
    if text.vocab_size is None or text.num_tokens is None:
        return row
    config = rules.config_of(entry.model)
    try:
        num_parameters = config.num_parameters(text.vocab_size)
        flops_per_token = config.forward_flops_per_token(text.vocab_size)
    except ValueError as error:
        raise SuiteError(f"{suite.path}: entries.{entry.name}.model: {error}") from None
    speed = _Speed.of(config, text.vocab_size)
    scored = tuple(speed.timed(each, audit=entry.audit) for each in row.evaluation)
    row = replace(row, parameters=num_parameters, evaluation=scored)
    if is_fitted(entry.model["builder"]):
        # How many values it holds depends on the text.
        return replace(row, parameters=None, reason="it is fitted to the training split at once")
    if entry.recipe is None:
        reason = "its weights come from a checkpoint" if entry.checkpoint else "it has nothing to learn"
        reason = "it learns while it is scored" if evaluation.is_prequential else reason
        return replace(row, training_tokens=0, optimizer_steps=0, training_flops=0, reason=reason)
    recipe = entry.recipe
    length = training_length(recipe, text.num_tokens["train"])
    if length is None:
        return replace(row, reason=f"the training split is too short for {recipe.batch} streams")
    return replace(
        row,
        tokens_per_epoch=length.tokens_per_epoch,
        training_tokens=length.num_tokens,
        epochs=round(length.num_tokens / length.tokens_per_epoch, 4),
        optimizer_steps=length.num_steps,
        optimizer_steps_are_expected=length.is_expected,
        # The backward pass costs two forward passes.
        training_flops=None if flops_per_token is None else 3 * flops_per_token * length.num_tokens,
        training_cpu_seconds=speed.training_s(recipe, length, text.num_tokens["valid"]),
        training_flops_are_expected=bool(entry.model.get("cutoffs")),
        # The estimate counts what stacks of recurrent layers hold; other models have other keys.
        peak_memory_bytes=_peak_memory_bytes(entry, recipe, evaluation, num_parameters, text.vocab_size)
        if isinstance(config, RecurrentConfig)
        else None,
    )


@dataclass(frozen=True, slots=True)
class _Speed:
    """How fast a model is on this machine's CPU, roughly; times are None if its FLOPs are not known."""

    flops_per_token: int | None
    row_flops: int  # of products that must wait for the token before, and so have one row in one stream
    num_layers: int

    @classmethod
    def of(cls, config: ModelConfig, vocab_size: int) -> _Speed:
        flops = config.forward_flops_per_token(vocab_size)
        if not isinstance(config, LstmConfig):
            return cls(flops, 0, 0)
        return cls(flops, sum(8 * width * width for _, width in config.widths), config.layers)

    def scoring_s(self, scored: Targets, *, in_pieces: bool = True) -> float | None:
        static = set(get_args(ProtocolName)).difference(CODING)
        if scored.targets is None or scored.protocol not in static or self.flops_per_token is None:
            return None
        # Only `exact` may read a text as one row; pieces and other protocols share the products among their streams.
        one_row = scored.protocol == "exact" and not (in_pieces and scored.targets > TARGETS_IN_ORDER)
        row = self.row_flops if one_row else 0
        per_token = (self.flops_per_token - row) / PRODUCTS_FLOPS + row / ROW_FLOPS
        return scored.targets * (per_token / hardware.usable_cores() + self.num_layers * LAYER_S)

    def audit_s(self, scored: Targets) -> float | None:
        scoring = self.scoring_s(scored, in_pieces=False)
        if scoring is None or scored.targets is None or self.flops_per_token is None or scored.protocol == "official":
            return None
        per_token = self.flops_per_token / ROW_FLOPS + AUDIT_TARGET_S
        return scoring + 2 * min(scored.targets, AUDIT_TARGETS) * per_token

    def timed(self, scored: Targets, *, audit: bool) -> Targets:
        audit_s = self.audit_s(scored) if audit else None
        return replace(scored, cpu_seconds=self.scoring_s(scored), audit_cpu_seconds=audit_s)

    def training_s(self, recipe: Recipe, length: TrainingLength, num_valid_tokens: int) -> float | None:
        """Training with its validations; a step costs three forward passes."""
        if self.flops_per_token is None:
            return None
        every = recipe.validation.every_tokens or recipe.validation.every_epochs * length.tokens_per_epoch
        validated = max(1, length.num_tokens // every) * num_valid_tokens
        flops = (3 * length.num_tokens + validated) * self.flops_per_token
        steps = self.num_layers * length.num_tokens / recipe.batch
        return flops / PRODUCTS_FLOPS / hardware.usable_cores() + 3 * steps * LAYER_S


def outlook(spec: RunSpec, vocab_size: int, num_tokens: Mapping[str, int]) -> list[str]:
    """Say before a run what it will do and, on a CPU, about how long each part takes.

    Args:
        spec: the run.
        vocab_size: tokens in the vocabulary.
        num_tokens: of each split.

    Returns:
        A line, and one more if a setting of the model is not used.
    """
    if spec.is_pretrained:
        return [f"scoring {' and '.join(spec.evaluation.splits)} in tokens of its own"]
    speed = _Speed.of(rules.config_of(spec.model), vocab_size)
    length = None if spec.recipe is None else training_length(spec.recipe, num_tokens["train"])
    targets = [speed.timed(each, audit=spec.audit) for each in _targets(spec.evaluation, num_tokens)]
    parts = [(f"scoring {each.split} ({each.protocol}) {_count(each.targets)} targets", each.cpu_seconds)
             for each in targets]  # fmt: skip
    if spec.audit:
        parts.append(("auditing", sum(each.audit_cpu_seconds or 0.0 for each in targets) or None))
    if spec.recipe is not None and length is not None:
        trained_s = speed.training_s(spec.recipe, length, num_tokens["valid"])
        parts.insert(0, (f"training {_count(length.num_tokens)} tokens", trained_s))
    is_cpu = spec.device == "cpu"
    line = ", ".join(text + (f" about {_time(s)}" if is_cpu and s is not None else "") for text, s in parts)
    note = rules.unused_setting(spec.model)
    return [line, *([note] if note else [])]


def _text_size(suite: Suite, roots: Sequence[Path]) -> _TextSize:
    """Counts from the table of datasets, or from the prepared folder if there is one."""
    facts = data.facts(suite.dataset)
    if facts.vocab_size is not None and facts.num_tokens is not None:
        return _TextSize(facts.vocab_size, facts.num_tokens)
    try:
        folder = data.find_prepared(suite.dataset, roots=roots, base=suite.path.parent)
        if folder is not None:
            manifest = data.read_manifest(folder)
            return _TextSize(manifest.alphabet_size, manifest.num_tokens)
    except DataError as error:
        return _TextSize(reason=str(error))
    return _TextSize(reason=f"known once prepared: harness data prepare {suite.path}")


def training_length(recipe: Recipe, num_train_tokens: int) -> TrainingLength | None:
    """Count the targets and steps of a recipe as the training loop walks the training split.

    The split is cut into B columns of R rows; an epoch trains B (R - 1) targets in windows of at most T rows. With
    sampled windows, the steps are those of the mean length. Fine-tuning is counted in full; it may stop earlier.

    Args:
        recipe: the training recipe.
        num_train_tokens: tokens of the training split.

    Returns:
        The length, or None if the split is too short for `recipe.batch` streams.
    """
    num_rows = num_train_tokens // recipe.batch
    # The trainer's own limit: with sampled windows, an epoch of two rows would have no window.
    if num_rows < 3:
        return None
    per_epoch = (num_rows - 1) * recipe.batch
    window = recipe.bptt if recipe.windows is None else mean_window(recipe.bptt, recipe.windows)
    window_tokens = window * recipe.batch
    steps_per_epoch = (num_rows - 1) / window
    # The last window of an epoch is cut short: half a window on average where lengths are drawn.
    steps_per_epoch = math.ceil(steps_per_epoch) if recipe.windows is None else steps_per_epoch + 0.5
    if recipe.epochs is not None:
        tokens, steps = recipe.epochs * per_epoch, recipe.epochs * steps_per_epoch
    else:
        limit = recipe.tokens or 0
        # - 1: a limit at the end of an epoch leaves a full last epoch, not an empty one.
        full_epochs = (limit - 1) // per_epoch
        # Training ends after the window that reaches the limit, so part of a window counts as one.
        rest = math.ceil((limit - full_epochs * per_epoch) / window_tokens)
        tokens = full_epochs * per_epoch + min(per_epoch, round(rest * window_tokens))
        steps = full_epochs * steps_per_epoch + min(rest, steps_per_epoch)
    if recipe.finetune is not None:
        tokens += recipe.finetune.epochs * per_epoch
        steps += recipe.finetune.epochs * steps_per_epoch
    return TrainingLength(per_epoch, tokens, round(steps), recipe.windows is not None)


def mean_window(bptt: int, sampling: WindowSampling) -> float:
    """Mean of max(minimum, int(normal(base, std))), where base is `bptt`, or half of it with `half_probability`."""
    full, half = _mean_length(bptt, sampling), _mean_length(bptt / 2, sampling)
    return (1 - sampling.half_probability) * full + sampling.half_probability * half


def _mean_length(base: float, sampling: WindowSampling) -> float:
    """minimum + sum of P(length >= k) over k > minimum."""
    if sampling.std == 0:
        return max(sampling.minimum, int(base))
    length = NormalDist(base, sampling.std)
    last = math.ceil(base + 9 * sampling.std)  # beyond 9 standard deviations the terms are below 1e-18
    # For a whole k > 0, int(x) >= k means x >= k.
    return sampling.minimum + sum(1 - length.cdf(k) for k in range(sampling.minimum + 1, last + 1))


def _peak_memory_bytes(
    entry: Entry, recipe: Recipe, evaluation: Evaluation, num_parameters: int, vocab_size: int
) -> int:
    """Estimated peak memory of a run, without the framework's share (measured: 40 to 180 MiB more).

    Counted are the weights, their gradient, the optimiser's moments and averages and, with weight drop, the dropped
    copy and its gradient; and the larger of one training window of T x B tokens and one window of scoring.
    """
    weight_bytes = 8 if entry.dtype == "float64" else 4
    value_bytes = {"float64": 8, "bfloat16": 2, "float16": 2}.get(entry.dtype, 4)
    copies = 4 if entry.model.get("dropout", {}).get("weight", 0) > 0 else 2
    averages = 0 if recipe.averaging is None and recipe.finetune is None else 1
    weights = num_parameters * (copies + OPTIMIZER_MOMENTS[recipe.optimizer] + averages) * weight_bytes
    layers, hidden = entry.model.get("layers", 0), entry.model.get("hidden", 0)
    embedding, is_tied = entry.model.get("embedding", 0), entry.model.get("tie", True)
    units = hidden * max(0, layers - 1) + (embedding if is_tied else hidden)
    num_tokens, cutoffs = recipe.bptt * recipe.batch, entry.model.get("cutoffs", ())
    # Values per token in training: 8 per unit of a layer's output (four gates, the cell, the output, its dropped copy,
    # the gradient), 3 per embedding value and 3 per logit (logits, softmax, gradient). An adaptive softmax keeps some
    # logits and works on a part at a time.
    logits = 3 * num_tokens * vocab_size
    if cutoffs:
        logits = min(int(num_tokens * softmax_columns(vocab_size, cutoffs)), KEPT_LOGITS) + 2 * PART_LOGITS
    per_token = (8 * units if layers else 0) + 3 * embedding
    training = (num_tokens * per_token + logits) * value_bytes
    # Values per token in scoring: 6 per unit of the widest layer, and two parts of logits.
    widest = hidden if layers > 1 or not is_tied else embedding
    pieces = PIECES if entry.model["builder"] == "awd-lstm" else 1
    rows = _rows_scored(recipe, evaluation, max(1, min(pieces, PIECES_TOKENS // evaluation.window)))
    part = 2 * (PART_LOGITS if cutoffs else min(rows * vocab_size, PART_LOGITS))
    return int(weights + max(training, (rows * (6 * widest + 3 * embedding) + part) * weight_bytes))


def _rows_scored(recipe: Recipe, evaluation: Evaluation, pieces: int) -> int:
    """Tokens of the largest forward pass of validation and of the static protocols; `exact` has so many pieces."""
    streams = {"exact": pieces, "streams": evaluation.streams}
    columns = max(
        streams.get(name, OFFICIAL_STREAMS[split]) for name in evaluation.protocols for split in evaluation.splits
    )
    return max(columns * evaluation.window, recipe.validation.streams * recipe.validation.window)


def _targets(evaluation: Evaluation, num_tokens: Mapping[str, int] | None) -> tuple[Targets, ...]:
    rows = []
    adaptive = [(protocol, split) for protocol in evaluation.adaptive_protocols for split in evaluation.splits]
    for protocol, split in (*evaluation.scored, *adaptive):
        targets = None
        if num_tokens is not None and protocol in CODING:
            # A file has every token in it, the first one too; a model does not predict that one.
            targets = sum(num_tokens.values()) if split == WHOLE else num_tokens[split]
        elif num_tokens is not None:
            # `streams` also scores every target: a stream starts at the last target of the one before.
            columns = OFFICIAL_STREAMS[split] if protocol == "official" else 1
            targets = columns * (num_tokens[split] // columns - 1)
        rows.append(Targets(split, protocol, targets))
    return tuple(rows)


def render(rows: Sequence[Estimate]) -> str:
    """The estimates as a table, followed by the reason for every gap and the source of the data."""
    from tabulate import tabulate

    table = [
        {
            "Entry": row.entry,
            "Model": row.title,
            "Parameters": _count(row.parameters),
            "Vocabulary": _count(row.vocab_size),
            "Tokens/epoch": _count(row.tokens_per_epoch),
            "Tokens": _count(row.training_tokens),
            "Steps": ("~" if row.optimizer_steps_are_expected else "") + _count(row.optimizer_steps),
            "FLOPs": ("~" if row.training_flops_are_expected else "") + _count(row.training_flops, ".2e"),
            "Memory (est.)": _bytes(row.peak_memory_bytes),
            "Seeds": " ".join(str(seed) for seed in row.seeds),
        }
        for row in rows
    ]
    right = ("left", "left", *["right"] * 7, "left")
    lines = [tabulate(table, headers="keys", tablefmt="github", disable_numparse=True, colalign=right)]
    lines += [f"{row.entry}: {text}" for row in rows for text in (row.reason, row.note) if text]
    for row in rows:
        parts = [(f"{each.split} {each.protocol}", each.targets, each.cpu_seconds) for each in row.evaluation]
        if row.training_tokens:
            parts.insert(0, ("training", None, row.training_cpu_seconds))
        audited = [each.audit_cpu_seconds for each in row.evaluation if each.audit_cpu_seconds is not None]
        if audited:
            parts.append(("audit", None, sum(audited)))
        shown = [
            name + ("" if targets is None else f" ({targets:,} targets)") + (f" {_time(s)}" if s is not None else "")
            for name, targets, s in parts
        ]
        title = "parts" if all(s is None for *_, s in parts) else "time on this machine's CPU, roughly"
        lines.append(f"{row.entry}, {title}: {', '.join(shown)}")
    lines += [f"data: {row.data}" for row in rows[:1]]
    return "\n".join(lines)


def _count(value: int | None, form: str = ",") -> str:
    return "-" if value is None else f"{value:{form}}"


def _time(seconds: float) -> str:
    """One significant digit more would say more than is known."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{max(1, seconds):.0f} s"


def _bytes(value: int | None) -> str:
    if value is None:
        return "-"
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"
