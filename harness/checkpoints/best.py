"""The best model of a training run, consistent with the checkpoint that a killed run resumes from.

The training loop writes a better model at once, but the checkpoint to resume from only now and then. A run killed in
between resumes from before that model existed, and may not reproduce it on another machine or thread count. So the
resume checkpoint names the best model at its time, and the files of that model are kept until the next checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.checkpoints import format
from harness.checkpoints.index import CheckpointIndex
from harness.core.errors import CheckpointError, writing
from harness.system.files import remove_tree, write_atomic

if TYPE_CHECKING:
    import torch


class Best:
    """The checkpoint of the best model in `folder`.

    index: its index, for the next resume checkpoint to name; None before the first model.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index: CheckpointIndex | None = None
        self._resumed_from: CheckpointIndex | None = None

    def keep(self, model: Mapping[str, torch.Tensor], meta: Mapping[str, Any]) -> None:
        """Save a better model, without removing the one that a resumed run would need.

        Args:
            model: weights by name.
            meta: other keys of its index.

        Raises:
            CheckpointError: the folder cannot be written.
        """
        format.save(self.folder, {"model": model}, meta, spare=_file_names(self._resumed_from))
        self.index = format.read_index(self.folder)

    def is_saved(self) -> None:
        """Remove older models: the resume checkpoint names `index` now."""
        self._resumed_from = self.index
        format.remove_unnamed(self.folder, _file_names(self.index))

    def restore(self, index: CheckpointIndex | None) -> None:
        """Restore the model that a resume checkpoint names. Raises CheckpointError if a file is missing."""
        self.index = self._resumed_from = index
        if index is None:
            # Its steps will be trained again. Without an index the files are no checkpoint.
            with writing(self.folder, CheckpointError):
                remove_tree(self.folder / format.INDEX)
            return
        for name in _file_names(index):
            if not (self.folder / name).is_file():
                raise CheckpointError(f"{self.folder / name} is missing, though the checkpoint to resume from names it")
        try:
            present = format.read_index(self.folder)
        except CheckpointError:
            present = None
        if present == index:
            return
        with writing(self.folder, CheckpointError):
            write_atomic(self.folder / format.INDEX, index.to_json())


def _file_names(index: CheckpointIndex | None) -> set[str]:
    return set() if index is None else {file.file for file in index.stored_files}
