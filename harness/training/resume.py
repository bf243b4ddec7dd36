"""What the checkpoint of an unfinished run holds, and how a trainer continues from it.

Saved at the edge of a window, it holds everything the loop depends on, so that a resumed run ends with the same bits as
an uninterrupted one. `folder/resume` has three groups of tensors and an index (`harness.checkpoints.format`):

- `model`: the weights. `optimizer`: its state, as `optimizers.state_to_tensors` names it.
- `state`: the carried state of the whole batch, the generators of torch and of dropout, the loss scale, accumulated
  gradients.
- index: the run's identity, `progress` (`TrainingState`), the generator of window lengths, the kernels that have been
  training each layer, the loss as last read, and the index of the best model at this moment.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness.checkpoints import format
from harness.core.errors import CheckpointError
from harness.core.json_values import parse_value
from harness.training.averaging import accumulated_gradients, restore_gradients
from harness.training.optimizers import load_state, state_to_tensors
from harness.training.progress import TrainingState
from lm_models.step import take_streams

if TYPE_CHECKING:
    from harness.training.trainer import Trainer

FOLDER = "resume"


@dataclass(frozen=True, slots=True)
class ResumeIndex:
    """The part of the index that is a run's own; keys as on disk.

    Attributes:
        progress: position, losses and decisions.
        window_rng: state of numpy's generator of window lengths.
        trained_by: per layer the kernel that has trained it, so that a resumed run uses no other; None if the model
            has no choice.
        nll_looked_at: sum of nats since the last validation when the loss was last read.
        tokens_looked_at: targets in that sum.
    """

    progress: TrainingState
    window_rng: dict[str, Any]
    trained_by: list[str | None] | None
    nll_looked_at: float
    tokens_looked_at: int


def save(trainer: Trainer) -> None:
    """Write the checkpoint of a trainer that is between two windows.

    Raises:
        CheckpointError: the folder cannot be written; the previous checkpoint is then still valid.
    """
    state = trainer.progress
    state.nll_since_validation = trainer.nll_nats()
    # Every rank takes part in this and the sum above, which join all shares; only the first one writes.
    rest = format.flatten_state(trainer.whole_state())
    if trainer.ranks is not None and not trainer.ranks.is_first:
        return
    # All three generators: masks, torch's own for what a model draws itself, and window lengths (in `meta`).
    rest["dropout_generator"] = trainer.generator.get_state()
    rest["torch_generator"] = torch.get_rng_state()
    if trainer.loss_scale is not None:
        rest.update(trainer.loss_scale.tensors())
    # They are part of the next step's clipped norm under the official handover.
    rest.update(accumulated_gradients(trainer.optimizer, trainer.parameters))
    groups = {"model": trainer.module.state_dict(), "optimizer": state_to_tensors(trainer.optimizer), "state": rest}
    meta = {
        "identity": trainer.identity,
        "progress": state.to_json(),
        "window_rng": trainer.window_rng.bit_generator.state,
        "trained_by": getattr(trainer.module, "trained_by", None),
        "nll_looked_at": trainer.loss_read.nll_nats,
        "tokens_looked_at": trainer.loss_read.tokens,
        "best": trainer.best.index,
    }
    format.save(trainer.folder / FOLDER, groups, meta)
    # From here on the checkpoint names the best model, so an older one may be deleted.
    trainer.best.is_saved()


def restore(trainer: Trainer) -> bool:
    """Put a new trainer into the state of the checkpoint in its folder.

    Returns:
        False if there is no checkpoint.

    Raises:
        CheckpointError: it is damaged, or of another run or other code.
    """
    folder = trainer.folder / FOLDER
    if not (folder / format.INDEX).is_file():
        return False
    try:
        _restore(trainer, folder)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; --again starts the run afresh") from error
    threads = torch.get_num_threads()
    if trainer.progress.thread_counts[-1] != threads:
        # Another number of threads splits sums in other places: as good a result, but not the same bits.
        trainer.progress.thread_counts.append(threads)
    size, counts = 1 if trainer.ranks is None else trainer.ranks.size, trainer.progress.process_counts or [1]
    if counts[-1] != size:
        trainer.progress.process_counts = [*counts, size]
    return True


def _restore(trainer: Trainer, folder: Path) -> None:
    index = format.read_index(folder)
    if index.identity != trainer.identity:
        raise CheckpointError(f"{folder} belongs to another run or was written by other code")
    values = {field.name: index.training[field.name] for field in fields(ResumeIndex) if field.name in index.training}
    try:
        parsed = parse_value(ResumeIndex, values)
    except ValueError as error:
        raise CheckpointError(f"{folder / format.INDEX} cannot be resumed from: {error}") from None
    format.load_into(trainer.module, format.load_group(folder, index, "model"), folder)
    trainer.progress = parsed.progress
    is_first = trainer.ranks is None or trainer.ranks.is_first
    if is_first:
        trainer.best.restore(index.best)
    if parsed.progress.is_averaging:
        # Before the optimiser's state is loaded: it is that of averaged SGD.
        trainer.switch_to_averaged_sgd()
    load_state(trainer.optimizer, format.load_group(folder, index, "optimizer"))
    rest = format.load_group(folder, index, "state")
    whole = format.restore_state(trainer.model.initial_state(trainer.recipe.batch), rest)
    trainer.state = take_streams(whole, trainer.own)
    trainer.generator.set_state(rest["dropout_generator"])
    torch.set_rng_state(rest["torch_generator"])
    restore_gradients(trainer.parameters, rest)
    trainer.window_rng.bit_generator.state = parsed.window_rng
    if parsed.trained_by is not None:
        model: Any = trainer.module
        model.trained_by = parsed.trained_by
    if trainer.loss_scale is not None:
        trainer.loss_scale.restore(rest)
    # The sum is added over the ranks when it is read, so one rank alone starts from it.
    trainer.nll_sum.fill_(parsed.progress.nll_since_validation if is_first else 0.0)
    read = trainer.loss_read
    read.nll_nats, read.tokens, read.step = parsed.nll_looked_at, parsed.tokens_looked_at, parsed.progress.step
