"""What a suite would do, told without doing it: sizes, steps, FLOPs, memory, and where the data would come from.

Everything follows from the suite, the models' own formulas and the datasets' known counts: nothing is prepared or
built, and torch is not imported. Letters: T time, B stream.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

import models
from harness import data
from harness.config.evaluation import Evaluation
from harness.config.recipe import Recipe, WindowSampling
from harness.core.errors import DataError, SuiteError
from harness.core.specs import Entry, Suite
from harness.data.folder import flaw, read_manifest
from harness.data.preparation import prepared_folder, request
from harness.suite import evaluation_of
from models.config import KEPT_LOGITS, PART_LOGITS, softmax_columns

OPTIMIZER_MOMENTS = {"adam": 2, "sgd": 0}
OFFICIAL_STREAMS = {"train": 10, "valid": 10, "test": 1}
"""Text columns of the protocol `official` per split; awd-lstm-lm, main.py."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a recipe trains. One token is one trained target; `is_expected` where window lengths are drawn."""

    tokens_per_epoch: int
    num_tokens: int
    num_steps: int
    is_expected: bool


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of the data: None with a reason where only the data can say."""

    vocab_size: int | None
    num_tokens: Mapping[str, int] | None
    reason: str | None


def describe(suite: Suite, roots: Sequence[Path] = ()) -> list[dict[str, Any]]:
    """One row per entry, as JSON holds it; null with a `reason` for what cannot be known yet.

    parameters; vocab_size; tokens_per_epoch, training_tokens, epochs, optimizer_steps and training_flops of one
    seed, the last two with a flag where they are expectations; peak_memory_bytes (an estimate, see
    `peak_memory_bytes`); evaluation, a list of split, protocol and targets; data, where it would come from. Raises
    SuiteError where a model does not fit the dataset's vocabulary.
    """
    known = _known(suite, roots)
    source = data.where(suite.dataset, roots, suite.path.parent)
    return [_row(suite, entry, known, source) for entry in suite.entries]


def _row(suite: Suite, entry: Entry, known: _Known, source: str) -> dict[str, Any]:
    settings = {key: value for key, value in entry.model.items() if key != "builder"}
    row: dict[str, Any] = {
        "suite": suite.name,
        "profile": suite.profile,
        "entry": entry.name,
        "title": entry.title,
        "dataset": suite.dataset_title,
        "builder": entry.model["builder"],
        "seeds": list(suite.seeds) if entry.recipe is not None else list(suite.seeds[:1]),
        "dtype": entry.dtype,
        "vocab_size": known.vocab_size,
        **dict.fromkeys(("parameters", "tokens_per_epoch", "training_tokens", "epochs", "optimizer_steps")),
        **dict.fromkeys(("optimizer_steps_are_expected", "training_flops", "peak_memory_bytes")),
        "training_flops_are_expected": False,
        "evaluation": _targets(evaluation_of(suite, entry), known.num_tokens),
        "data": source,
        "reason": known.reason,
    }
    if known.vocab_size is None or known.num_tokens is None:
        return row
    config = _checked(models.config_class(entry.model["builder"]), settings)
    try:
        row["parameters"] = config.num_parameters(known.vocab_size)
        flops_per_token = config.forward_flops_per_token(known.vocab_size)
    except ValueError as error:
        raise SuiteError(f"{suite.path}: entries.{entry.name}.model: {error}") from None
    if entry.recipe is None:
        kept = "its weights come from a checkpoint" if entry.checkpoint else "it has nothing to learn"
        return {**row, "training_tokens": 0, "optimizer_steps": 0, "training_flops": 0, "reason": kept}
    recipe = entry.recipe
    plan = plan_training(recipe, known.num_tokens["train"])
    if plan is None:
        return {**row, "reason": f"the training split is too short for {recipe.batch} streams"}
    row.update(
        tokens_per_epoch=plan.tokens_per_epoch,
        training_tokens=plan.num_tokens,
        epochs=round(plan.num_tokens / plan.tokens_per_epoch, 4),
        optimizer_steps=plan.num_steps,
        optimizer_steps_are_expected=plan.is_expected,
        training_flops=3 * flops_per_token * plan.num_tokens,
        training_flops_are_expected=bool(entry.model.get("cutoffs")),
        peak_memory_bytes=peak_memory_bytes(
            entry, recipe, evaluation_of(suite, entry), row["parameters"], known.vocab_size
        ),
    )
    return row


def _checked(type_: Any, value: Mapping[str, Any]) -> Any:
    return TypeAdapter(type_).validate_json(json.dumps(dict(value)), strict=True)


def _known(suite: Suite, roots: Sequence[Path]) -> _Known:
    """Counts from the table of datasets, or from a prepared folder that is already there."""
    facts = data.facts(suite.dataset)
    if facts.vocab_size is not None and facts.num_tokens is not None:
        return _Known(facts.vocab_size, facts.num_tokens, None)
    try:
        folder = prepared_folder(request(suite.dataset, roots=roots, base=suite.path.parent), data.cache_folder())
        problem = flaw(folder)
        if problem is None:
            manifest = read_manifest(folder)
            counts = {split: count["tokens"] for split, count in manifest["counts"].items()}
            return _Known(manifest["alphabet_size"], counts, None)
    except DataError as error:
        return _Known(None, None, str(error))
    return _Known(None, None, f"known once prepared: harness data prepare {suite.path}")


def plan_training(recipe: Recipe, num_train_tokens: int) -> Plan | None:
    """Targets and steps of a recipe over a training split, as the training loop walks it; None if it is too short.

    The split is cut into B columns of R rows; an epoch trains B (R - 1) targets in windows of at most T rows.
    With sampled windows the steps are those of the mean length, half a window added for the cut last one. Fine-tuning
    is counted in full; it may end sooner.
    """
    num_rows = num_train_tokens // recipe.batch
    if num_rows < 3:
        return None
    per_epoch = (num_rows - 1) * recipe.batch
    length = recipe.bptt if recipe.windows is None else mean_window(recipe.bptt, recipe.windows)
    window_tokens = length * recipe.batch
    steps_per_epoch = (num_rows - 1) / length
    steps_per_epoch = math.ceil(steps_per_epoch) if recipe.windows is None else steps_per_epoch + 0.5
    if recipe.epochs is not None:
        tokens, steps = recipe.epochs * per_epoch, recipe.epochs * steps_per_epoch
    else:
        wanted = recipe.tokens or 0
        whole = (wanted - 1) // per_epoch
        rest = math.ceil((wanted - whole * per_epoch) / window_tokens)
        tokens = whole * per_epoch + min(per_epoch, round(rest * window_tokens))
        steps = whole * steps_per_epoch + min(rest, steps_per_epoch)
    if recipe.finetune is not None:
        tokens += recipe.finetune.epochs * per_epoch
        steps += recipe.finetune.epochs * steps_per_epoch
    return Plan(per_epoch, tokens, round(steps), recipe.windows is not None)


def mean_window(bptt: int, sampling: WindowSampling) -> float:
    """Mean of max(minimum, int(normal(base, std))), base being `bptt`, or its half with `half_probability`."""
    whole = _mean_length(bptt, sampling)
    half = _mean_length(bptt / 2, sampling)
    return (1 - sampling.half_probability) * whole + sampling.half_probability * half


def _mean_length(base: float, sampling: WindowSampling) -> float:
    """minimum + sum of P(length >= k) over k > minimum."""
    if sampling.std == 0:
        return max(sampling.minimum, int(base))
    scale = sampling.std * math.sqrt(2)
    last = math.ceil(base + 9 * sampling.std)
    return sampling.minimum + sum(
        math.erfc((k - base) / scale) / 2 for k in range(sampling.minimum + 1, max(sampling.minimum, last) + 1)
    )


def peak_memory_bytes(
    entry: Entry, recipe: Recipe, evaluation: Evaluation, num_parameters: int, vocab_size: int
) -> int:
    """Estimated peak of a run, without what the framework takes: measured peaks of training lay 40 to 180 MiB above it.

    Weights, their gradient, the optimiser's moments (two for Adam, the average where SGD may keep one) and, with
    weight drop, the dropped copy and its gradient, in the weights' dtype. And one window of T x B tokens in the dtype
    computed in, per token: 8 values per unit of a layer's output (four gates, the cell, the output, its dropped copy,
    the gradient), 3 per embedding value, 3 per logit (logits, their softmax, their gradient). A model without layers
    counts its logits alone. An adaptive softmax counts the logits it keeps and the part it works on. Where scoring's
    windows take more than training's, theirs count: 6 values per unit of the widest layer, and two parts of logits.
    """
    weight_bytes = 8 if entry.dtype == "float64" else 4
    value_bytes = {"float64": 8, "bfloat16": 2, "float16": 2}.get(entry.dtype, 4)
    copies = 4 if entry.model.get("dropout", {}).get("weight", 0) > 0 else 2
    averages = 0 if recipe.averaging is None and recipe.finetune is None else 1
    kept = num_parameters * (copies + OPTIMIZER_MOMENTS[recipe.optimizer] + averages) * weight_bytes
    layers, hidden = entry.model.get("layers", 0), entry.model.get("hidden", 0)
    embedding = entry.model.get("embedding", 0)
    units = hidden * max(0, layers - 1) + (embedding if entry.model.get("tie", True) else hidden)
    num_tokens, cutoffs = recipe.bptt * recipe.batch, entry.model.get("cutoffs", ())
    logits = 3 * num_tokens * vocab_size
    if cutoffs:
        logits = min(int(num_tokens * softmax_columns(vocab_size, cutoffs)), KEPT_LOGITS) + 2 * PART_LOGITS
    per_token = (8 * units if layers else 0) + 3 * embedding
    training = (num_tokens * per_token + logits) * value_bytes
    widest = hidden if layers > 1 or not entry.model.get("tie", True) else embedding
    rows = _rows_scored(recipe, evaluation)
    part = 2 * (PART_LOGITS if cutoffs else min(rows * vocab_size, PART_LOGITS))
    return int(kept + max(training, (rows * (6 * widest + 3 * embedding) + part) * weight_bytes))


def _rows_scored(recipe: Recipe, evaluation: Evaluation) -> int:
    """Tokens of the largest forward pass of validation and of the static protocols."""
    streams = {"exact": 1, "streams": evaluation.streams}
    columns = [streams.get(name, OFFICIAL_STREAMS[split]) for name in evaluation.protocols
               for split in evaluation.splits]  # fmt: skip
    return int(max(max(columns) * evaluation.window, recipe.validation.streams * recipe.validation.window))


def _targets(evaluation: Evaluation, num_tokens: Mapping[str, int] | None) -> list[dict[str, Any]]:
    rows = []
    for protocol in (*evaluation.protocols, *evaluation.adaptive_protocols):
        for split in evaluation.splits:
            targets = None
            if num_tokens is not None:
                columns = OFFICIAL_STREAMS[split] if protocol == "official" else 1
                targets = columns * (num_tokens[split] // columns - 1)
            rows.append({"split": split, "protocol": protocol, "targets": targets})
    return rows


def render(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table for people, with where the data comes from and the reason for every gap below it."""
    from tabulate import tabulate

    table = [
        {
            "Entry": row["entry"],
            "Model": row["title"],
            "Parameters": _count(row["parameters"]),
            "Vocabulary": _count(row["vocab_size"]),
            "Tokens/epoch": _count(row["tokens_per_epoch"]),
            "Tokens": _count(row["training_tokens"]),
            "Steps": ("~" if row["optimizer_steps_are_expected"] else "") + _count(row["optimizer_steps"]),
            "FLOPs": _flops(row),
            "Memory (est.)": _bytes(row["peak_memory_bytes"]),
            "Seeds": " ".join(str(seed) for seed in row["seeds"]),
        }
        for row in rows
    ]
    right = ("left", "left", *["right"] * 7, "left")
    lines = [tabulate(table, headers="keys", tablefmt="github", disable_numparse=True, colalign=right)]
    lines += [f"{row['entry']}: {row['reason']}" for row in rows if row["reason"]]
    told = list(dict.fromkeys(_evaluation(row) for row in rows))
    if len(told) == 1:
        lines.append(f"evaluation: {told[0]}")
    else:
        lines += [f"{row['entry']}: evaluation: {_evaluation(row)}" for row in rows]
    lines += [f"data: {row['data']}" for row in rows[:1]]
    return "\n".join(lines)


def _evaluation(row: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{each['split']} {each['protocol']} ({_count(each['targets'])} targets)" for each in row["evaluation"]
    )


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _flops(row: Mapping[str, Any]) -> str:
    """Marked where they depend on how often the text's words fall into a tail."""
    if row["training_flops"] is None:
        return "-"
    return ("~" if row["training_flops_are_expected"] else "") + f"{row['training_flops']:.2e}"


def _bytes(value: int | None) -> str:
    if value is None:
        return "-"
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"
