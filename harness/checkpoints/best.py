"""The kept model of a training loop, so that a resumed run finds the one its own checkpoint knew.

The loop keeps a better model as soon as it has one, and saves the rest now and then. A run that was killed in between
goes on from before that model was made, and may not make it again: on another machine or thread count it will not, and
what a later stage has kept is nothing an earlier one may begin from. So the checkpoint names the kept model of its
moment, whose file stays beside a newer one until the next checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.checkpoints import format
from harness.core.errors import CheckpointError
from harness.system.files import write_atomic

if TYPE_CHECKING:
    import torch


class Best:
    """The checkpoint `folder`. index: what it holds, for the next resume checkpoint to name; None before the first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index: dict[str, Any] | None = None
        self._resumed_from: dict[str, Any] | None = None

    def keep(self, model: Mapping[str, torch.Tensor], meta: Mapping[str, Any]) -> None:
        """Put a better model in place; the one that a resumed run would need stays. Raises CheckpointError."""
        format.save(self.folder, {"model": model}, meta, spare=format.file_names(self._resumed_from))
        self.index = format.read_index(self.folder)

    def is_saved(self) -> None:
        """A resume checkpoint names `index` now: nobody needs an older model any more."""
        self._resumed_from = self.index
        format.remove_unnamed(self.folder, format.file_names(self.index))

    def restore(self, index: Mapping[str, Any] | None) -> None:
        """Put back the model that a resume checkpoint names. Raises CheckpointError where it cannot."""
        self.index = self._resumed_from = None if index is None else dict(index)
        if self.index is None:
            # What lies there is of steps that are about to be taken anew; without its index it is no checkpoint.
            (self.folder / format.INDEX).unlink(missing_ok=True)
            return
        for name in format.file_names(self.index):
            if not (self.folder / name).is_file():
                raise CheckpointError(f"{self.folder / name} is missing, though the checkpoint to go on from names it")
        try:
            standing = format.read_index(self.folder)
        except CheckpointError:
            standing = None
        if standing == self.index:
            return
        try:
            write_atomic(self.folder / format.INDEX, json.dumps(self.index, indent=1))
        except OSError as error:
            raise CheckpointError(f"{self.folder}: cannot be written: {error.strerror or error}") from error
