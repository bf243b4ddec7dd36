"""Checkpoints as sides of a comparison: each is scored on the same text."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.errors import CheckpointError
from harness.core.interfaces import LoadedModel, ReadText
from harness.core.scores import Score
from harness.core.target_losses import TargetLosses
from harness.core.units import CHAR
from harness.report.comparison.sides import Side, Text
from harness.results.store import Store
from harness.system.paths import is_plain


@dataclass(frozen=True, slots=True)
class Checkpoint(Side):
    """A checkpoint's score of one text.

    Attributes:
        name, metrics: as of `Side`.
        score, tokens: of the text.
        made_of: checksum of the text's bytes, and what says how they are divided into tokens.
        kept: the loss of each target; None under `official`, or if the tokens have no text.
        code: checksum of the code.
    """

    name: str
    metrics: tuple[str, ...]
    score: Score
    tokens: Text = field(repr=False)
    made_of: tuple[object, ...]
    kept: TargetLosses | None = field(repr=False)
    code: object

    def scores(self) -> dict[str, list[Score]]:
        return {self.score.split: [self.score]}

    def tokens_id(self, split: str) -> object:
        return self.made_of

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


def score_checkpoint(name: str, model: LoadedModel, text: Mapping[str, Any]) -> Checkpoint:
    """Score a model on a text. Imports torch.

    Args:
        name: of the side.
        model: a checkpoint's, or a pretrained one with a tokeniser of its own.
        text: arguments of an `EvaluationRequest` but the model.

    Returns:
        The side.

    Raises:
        CheckpointError: the model does not fit the text.
        DataError: the text cannot be read or is too short.
    """
    from harness.evaluation import scoring, target_bytes
    from harness.system import source

    scored = scoring.score_text(scoring.EvaluationRequest(model=model, **text), keep_nll=True)
    nll, read = scored.target_nll, scored.text.read
    kept: TargetLosses | None
    made_of: tuple[object, ...]
    if read is not None and nll is not None:
        tokens, kept = _pieces(read), target_bytes.with_own_bytes(nll, read)
        made_of = (hashlib.sha256(read.text).hexdigest(), hashlib.sha256(read.ends.tobytes()).hexdigest())
    else:
        tokens = Text(scored.text.ids, model.vocabulary, model.unit)
        text_of = (tokens.ids, tokens.vocabulary, tokens.unit)
        kept = None if nll is None else target_bytes.with_bytes(nll, *text_of)
        sha256 = kept.text_sha256 if kept else target_bytes.text_sha256(*text_of)
        # Tokens of one unit of the same bytes are the same tokens under any numbers.
        made_of = (sha256, tokens.unit, len(tokens.ids))
    return Checkpoint(
        name=name,
        metrics=tuple(scored.score.metrics),
        score=scored.score,
        tokens=tokens,
        made_of=made_of,
        kept=kept,
        code=source.installed().to_json().get("source_sha256"),
    )


def _pieces(read: ReadText) -> Text:
    """The text of each token in its place, to be shown end to end."""
    ends = read.ends.tolist()
    pieces = [read.text[start:end].decode(errors="replace") for start, end in pairwise([0, *ends])]
    return Text(np.arange(len(pieces)), pieces, CHAR)
