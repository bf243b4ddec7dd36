"""Resolve a checked Suite to RunSpecs: one per entry and seed, with everything that changes a number written out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lm_models
from harness import data
from harness.checkpoints import format
from harness.core.config.evaluation import CODING, Evaluation, ProtocolName
from harness.core.errors import CheckpointError, SuiteError
from harness.core.messages import near
from harness.core.specs import Entry, Label, RunSpec, Suite
from harness.suite import rules
from harness.suite.blocks import check_seeds
from harness.system import dtype as dtypes
from lm_models.huggingface import files
from lm_models.huggingface.config import Config as PretrainedConfig


def resolve(
    suite: Suite,
    *,
    seeds: Sequence[int] | None = None,
    only: Sequence[str] = (),
    device: str,
    roots: Sequence[Path] = (),
) -> list[RunSpec]:
    """List the runs of a suite in its order.

    An entry that trains nothing (a checkpoint, an oracle) runs with the first seed only: others change nothing.

    Args:
        suite: a suite under its profile.
        seeds: replace the suite's seeds.
        only: names of entries; the others are left out.
        device: `cpu`, `cuda` or `cuda:i`.
        roots: folders to search for the user's own data.

    Returns:
        One RunSpec per entry and seed.

    Raises:
        SuiteError: an entry is unknown or a seed out of range.
        CheckpointError: a checkpoint is missing or damaged.
        DataError: a file of the user's own data is missing.
    """
    chosen = tuple(dict.fromkeys(seeds)) if seeds else suite.seeds
    try:
        check_seeds(chosen)
    except ValueError as error:
        raise SuiteError(f"{suite.path}: {error}") from None
    names = [entry.name for entry in suite.entries]
    for name in only:
        if name not in names:
            raise SuiteError(f"{suite.path}: entry '{name}' is unknown in profile {suite.profile}.{near(name, names)}")
    # The user's own files are hashed here, once for all entries.
    identity = data.identify(suite.dataset, roots=roots, base=suite.path.parent)
    specs = []
    for entry in suite.entries:
        if only and entry.name not in only:
            continue
        folder = _find_checkpoint(entry.checkpoint, suite, entry.name) if entry.checkpoint is not None else None
        model, model_source = _model_of(suite, entry)
        first = RunSpec(
            label=_label(suite, entry),
            dataset=suite.dataset,
            # A stretch of a text is other data: a table must not compare its value with those of the whole.
            dataset_identity={**identity, **_stretch_of(model)},
            model=model,
            recipe=entry.recipe,
            checkpoint=str(folder) if folder is not None else None,
            # The content names the run: a moved checkpoint keeps its run id, a changed one gets another.
            checkpoint_sha256=format.fingerprint(folder) if folder is not None else None,
            evaluation=evaluation_of(suite, entry),
            seed=chosen[0],
            device=device,
            dtype=dtypes.resolve(entry.dtype, device),
            kernel=entry.kernel,
            speed=entry.speed,
            checkpoint_every_s=suite.checkpoint_every_s,
            kernels=suite.kernels,
            model_source=model_source,
            audit=entry.audit,
        )
        if first.is_compressor:
            # It runs on the CPU of the command's machine, and no kernel of the suite is its own.
            first = replace(first, device="cpu", kernels=())
        specs += [replace(first, seed=seed) for seed in (chosen if entry.recipe is not None else chosen[:1])]
    return specs


def evaluation_of(suite: Suite, entry: Entry) -> Evaluation:
    """The suite's evaluation with the protocols that are the entry's own, and its `adaptive` if it has one."""
    coding: tuple[ProtocolName, ...] = tuple(name for name in suite.evaluation.protocols if name in CODING)
    if entry.model["builder"] in lm_models.COMPRESSORS:
        # Windows, streams and losses of targets are nothing to it: they must not name its run.
        return Evaluation(protocols=coding or CODING, splits=suite.evaluation.splits)
    evaluation = suite.evaluation if entry.adaptive is None else replace(suite.evaluation, adaptive=entry.adaptive)
    if not coding:
        return evaluation
    if rules.is_untrained(entry.model, entry):
        return Evaluation(protocols=("prequential",), splits=evaluation.splits, adaptive=evaluation.adaptive)
    return replace(evaluation, protocols=tuple(name for name in evaluation.protocols if name not in coding))


def texts_of(suite: Suite, specs: Sequence[RunSpec], roots: Sequence[Path] = ()) -> dict[str, Path]:
    """The file of each split that pretrained models among the runs of a suite read. DataError if one is missing."""
    splits = {split for spec in specs if spec.is_pretrained for split in spec.evaluation.splits}
    base = suite.path.parent
    return {split: data.find_text(suite.dataset, split, roots=roots, base=base).path for split in sorted(splits)}


def _stretch_of(model: Mapping[str, Any]) -> dict[str, int]:
    """What a pretrained model's `first_bytes` adds to the identity of the data; empty for a whole text."""
    first_bytes = model.get("first_bytes") if model["builder"] in lm_models.PRETRAINED else None
    return {} if first_bytes is None else {"first_bytes": first_bytes}


def _model_of(suite: Suite, entry: Entry) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The model's block, and which code or which files it is made of. A pretrained model must be here."""
    if entry.model["builder"] not in lm_models.PRETRAINED:
        return entry.model, lm_models.source_of(entry.model["builder"])
    config = rules.config_of(entry.model)
    assert isinstance(config, PretrainedConfig)
    try:
        found = files.find(config, places=(suite.path.parent.resolve(), Path.cwd()), offline=data.network_is_off())
        source = files.describe(config, found)
    except ValueError as error:
        raise CheckpointError(f"{suite.path}: entries.{entry.name}.model.path {error}") from None
    # The worker finds a relative path only from the suite's folder; `source` has it as the suite does.
    is_file = config.revision is None and not config.path.startswith(files.PACKAGE)
    return ({**entry.model, "path": str(found.place)} if is_file else entry.model), source


def _label(suite: Suite, entry: Entry) -> Label:
    return Label(
        suite=suite.name,
        entry=entry.name,
        profile=suite.profile,
        title=entry.title,
        task=suite.task,
        dataset=suite.dataset_title,
        metrics=suite.metrics,
        published=entry.published,
    )


def _find_checkpoint(text: str, suite: Suite, entry: str) -> Path:
    """The absolute folder of a checkpoint, relative to the suite file or else to the current folder."""
    # A suite in the project names checkpoints relative to itself; a user types them relative to the current folder.
    from harness.checkpoints import export

    given = Path(text).expanduser()
    places = list(dict.fromkeys(((suite.path.parent / given).resolve(), given.resolve())))
    for place in places:
        if place.is_dir():
            return export.find(place)
    looked = ", ".join(str(place) for place in places)
    raise CheckpointError(
        f"{suite.path}: entries.{entry}.checkpoint '{text}': no such folder: looked at {looked}. "
        f"The folder of a finished run will do"
    )
