"""What a sink receives, and what it has to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from harness.core.config.as_json import as_json
from harness.core.specs import RunSpec

Setting: TypeAlias = bool | int | float | str


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """One attempt at a run, as it begins to train or, without training, as it ends.

    Attributes:
        run_id: names the series.
        name: of the run, for a person.
        suite: name of its suite.
        folder: where every sink of this invocation writes.
        tokens: where the attempt begins. An older attempt may have got further than its last checkpoint, so points
            after this one are trained again. 0 begins a new series.
        settings: the run's settings, nested keys joined by dots.
    """

    run_id: str
    name: str
    suite: str
    folder: Path
    tokens: int
    settings: Mapping[str, Setting] = field(default_factory=dict)


class Sink(Protocol):
    """Takes the series of one run. It is called from one thread; what it raises drops it, and the run goes on."""

    def points(self, values: Mapping[str, float], tokens: int) -> None:
        """Add a point to each series.

        Args:
            values: finite values by name, such as `validation/bpc`.
            tokens: tokens trained on so far.
        """

    def finish(self, status: str, scores: Mapping[str, float], tokens: int) -> None:
        """End the series. Not called if the run is interrupted.

        Args:
            status: of the record: `finished`, `failed` or `diverged`.
            scores: final values by split, protocol and metric, such as `test/exact/bpc`.
            tokens: tokens trained on.
        """

    def close(self) -> None:
        """Write everything that is still in memory."""


OpenSink: TypeAlias = Callable[[TrackedRun], Sink]


def settings_of(spec: RunSpec) -> dict[str, Setting]:
    """The settings of a run, flat: `recipe.lr`, `model.hidden`, `seed`. Unset ones are left out, lists become text."""
    blocks: dict[str, object] = {
        "entry": spec.label.entry,
        "dataset": spec.label.dataset,
        "model": spec.model,
        "recipe": None if spec.recipe is None else as_json(spec.recipe),
        "checkpoint": spec.checkpoint,
        "evaluation": as_json(spec.evaluation),
        "seed": spec.seed,
        "device": spec.device,
        "dtype": spec.dtype,
        "kernel": spec.kernel,
    }
    return dict(_flat("", blocks))


def _flat(prefix: str, value: Any) -> list[tuple[str, Setting]]:
    if isinstance(value, Mapping):
        return [pair for key, item in value.items() for pair in _flat(f"{prefix}.{key}" if prefix else key, item)]
    if value is None:
        return []
    return [(prefix, value if isinstance(value, bool | int | float | str) else str(value))]
