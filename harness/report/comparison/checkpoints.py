"""Checkpoints as sides of a comparison: each is scored on the same text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core.errors import CheckpointError
from harness.core.scores import Score
from harness.core.target_losses import TargetLosses
from harness.report.comparison.sides import Side, Text
from harness.results.store import Store
from harness.system.paths import is_plain


@dataclass(frozen=True, slots=True)
class Checkpoint(Side):
    """A checkpoint's score of one text.

    Attributes:
        name, metrics: as of `Side`.
        score, tokens: of the text.
        text_sha256: of the text's bytes.
        kept: the loss of each target; None under `official`, or if the tokens stand for no text.
        code: checksum of the code.
    """

    name: str
    metrics: tuple[str, ...]
    score: Score
    tokens: Text = field(repr=False)
    text_sha256: str
    kept: TargetLosses | None = field(repr=False)
    code: object

    def scores(self) -> dict[str, list[Score]]:
        return {self.score.split: [self.score]}

    def tokens_id(self, split: str) -> object:
        # Tokens of one unit of the same bytes are the same tokens, whatever their numbers.
        return self.text_sha256, self.tokens.unit, len(self.tokens.ids)

    def has_losses(self, split: str) -> bool:
        return self.kept is not None

    def losses(self, split: str) -> list[TargetLosses]:
        return [] if self.kept is None else [self.kept]

    def text(self, split: str) -> Text | None:
        return self.tokens

    @property
    def codes(self) -> set[object]:
        return {self.code}


def find_checkpoint(name: str, store: Store) -> Path:
    """The checkpoint in a folder, or the best model of a run, by folder or id. Raises CheckpointError without one."""
    from harness.checkpoints import export, format

    given = Path(name)
    found = export.find(store.run_folder(name) if is_plain(name) and not given.is_dir() else given)
    if not (found / format.INDEX).is_file():
        raise CheckpointError(f"{name}: is no checkpoint, and no run in {store.root} with checkpoints/best")
    return found


def score_checkpoint(name: str, folder: Path, device: str, text: Mapping[str, Any]) -> Checkpoint:
    """Score a checkpoint on a text. Imports torch.

    Args:
        name: of the side.
        folder: of the checkpoint.
        device: as torch names it.
        text: arguments of an `EvaluationRequest` but the model.

    Returns:
        The side.

    Raises:
        CheckpointError: the checkpoint cannot be loaded or does not fit the text.
        DataError: the text cannot be read or is too short.
    """
    from harness.checkpoints import model
    from harness.evaluation import scoring, target_bytes
    from harness.system import source

    loaded = model.load(folder, device=device)
    scored = scoring.score_text(scoring.EvaluationRequest(model=loaded, **text), keep_nll=True)
    tokens = Text(scored.text.ids, loaded.vocabulary, loaded.unit)
    text_of = (tokens.ids, tokens.vocabulary, tokens.unit)
    kept = None if scored.target_nll is None else target_bytes.with_bytes(scored.target_nll, *text_of)
    return Checkpoint(
        name=name,
        metrics=tuple(scored.score.metrics),
        score=scored.score,
        tokens=tokens,
        text_sha256=kept.text_sha256 if kept else target_bytes.text_sha256(*text_of),
        kept=kept,
        code=source.installed().to_json().get("source_sha256"),
    )
