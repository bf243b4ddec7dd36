"""The text that checkpoints are scored on, and the protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import DataError

if TYPE_CHECKING:
    from harness.core.config.evaluation import SplitName


def _say_nothing(line: str) -> None:
    return


@dataclass(frozen=True, slots=True, kw_only=True)
class TextChoice:
    """A text file, or a split of a dataset, and how it is scored.

    Attributes:
        text: a file.
        dataset: a registered name or a suite file, instead of `text`.
        split: of the dataset.
        unknown: token that replaces those of `text` that a vocabulary lacks; without one they are an error.
        protocol: `exact`, `streams` or `official`.
        batch: streams of `official`.
        window: tokens per forward pass; changes no sum.
        data_path: folder with the datasets' files; None for HARNESS_DATA and the cache.
        note: receives a line about a download or a preparation.
    """

    text: Path | None = None
    dataset: str | None = None
    split: SplitName | None = None
    unknown: str | None = None
    protocol: str = "exact"
    batch: int | None = None
    window: int | None = None
    data_path: str | None = None
    note: Callable[[str], None] = _say_nothing

    def __post_init__(self) -> None:
        if (self.dataset is None) == (self.text is None):
            raise DataError("give either a dataset or a text")
        if self.dataset is None and self.split is not None:
            raise DataError("a split goes with a dataset, not with a text")
        if self.text is None and self.unknown is not None:
            raise DataError("a token for unknown ones goes with a text, not with a dataset")

    def find(self, *, raw: bool = False) -> dict[str, Any]:
        """Find the text; a dataset is prepared if need be.

        Args:
            raw: the dataset's own file, for a model that reads text with its own tokeniser.

        Returns:
            The arguments of an `EvaluationRequest` but the model.

        Raises:
            DataError: the data is missing or damaged.
        """
        target = {"text": self.text} if self.dataset is None else self._split(self.dataset, raw)
        return {
            **target,
            "split": self.split or "test",
            "unknown": self.unknown,
            "protocol": self.protocol,
            "batch": self.batch,
            "window": self.window,
        }

    def _split(self, dataset: str, raw: bool) -> dict[str, Any]:
        from harness import data
        from harness.data.download.http import download_lines
        from harness.suite import dataset_named

        spec, base = dataset_named(dataset)
        roots = data.search_roots(self.data_path)
        if raw:
            return {"file": data.find_text(spec, self.split or "test", roots=roots, base=base)}
        # The file of the split if that is enough to score it and found, else the complete dataset.
        file = data.find_split(spec, self.split or "test", roots=roots)
        if file is not None:
            return {"file": file}
        lines = download_lines(self.note)
        return {"corpus": data.load(data.prepare(spec, roots=roots, base=base, progress=lines, note=self.note))}
