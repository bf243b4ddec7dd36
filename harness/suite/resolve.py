"""A checked Suite into RunSpecs: one per entry and seed, with everything that changes a number written out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.checkpoints import format
from harness.config.evaluation import Evaluation
from harness.core.errors import CheckpointError, SuiteError
from harness.core.messages import near
from harness.core.specs import Entry, Label, RunSpec, Suite
from harness.data import identify
from harness.suite.shape import check_seeds


def resolve(
    suite: Suite,
    *,
    seeds: Sequence[int] | None = None,
    only: Sequence[str] = (),
    device: str,
    roots: Sequence[Path] = (),
) -> list[RunSpec]:
    """The runs of a suite in its order. `seeds` stand in for the suite's, `only` names the entries wanted.

    An entry that trains nothing (a checkpoint, an oracle) has no use for a second seed and gets the first alone.
    Raises SuiteError for an unknown entry or an impossible seed, CheckpointError for a checkpoint that is not
    there, DataError for a user's own file that is not there.
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
    identity = identify(suite.dataset, roots=roots, base=suite.path.parent)
    specs = []
    for entry in suite.entries:
        if only and entry.name not in only:
            continue
        folder = find_checkpoint(entry.checkpoint, suite, entry.name) if entry.checkpoint is not None else None
        digest = format.fingerprint(folder) if folder is not None else None
        specs += [
            RunSpec(
                label=_label(suite, entry),
                dataset=suite.dataset,
                dataset_identity=identity,
                model=entry.model,
                recipe=entry.recipe,
                checkpoint=str(folder) if folder is not None else None,
                checkpoint_sha256=digest,
                evaluation=evaluation_of(suite, entry),
                seed=seed,
                device=device,
                dtype=entry.dtype,
                kernel=entry.kernel,
                speed=entry.speed,
                checkpoint_every_s=suite.checkpoint_every_s,
                kernels=suite.kernels,
            )
            for seed in (chosen if entry.recipe is not None else chosen[:1])
        ]
    return specs


def evaluation_of(suite: Suite, entry: Entry) -> Evaluation:
    """The suite's evaluation block with the entry's own `adaptive`, if it has one."""
    return suite.evaluation if entry.adaptive is None else replace(suite.evaluation, adaptive=entry.adaptive)


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


def find_checkpoint(text: str, suite: Suite, entry: str) -> Path:
    """The absolute folder a checkpoint names: from the suite file's folder, else from the current one.

    Raises CheckpointError where there is neither.
    """
    given = Path(text).expanduser()
    places = list(dict.fromkeys(((suite.path.parent / given).resolve(), given.resolve())))
    for place in places:
        if place.is_dir():
            return place
    looked = ", ".join(str(place) for place in places)
    raise CheckpointError(
        f"{suite.path}: entries.{entry}.checkpoint '{text}': no such folder: looked at {looked}. "
        f"A finished run keeps its model under checkpoints/best"
    )
