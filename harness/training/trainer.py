"""Fit a model to a corpus by a recipe. Knows no model by name.

The loop's whole state is in `TrainingState`, the model, the optimiser, the carried state and three random generators;
`resume` saves and restores them. Shape letters: T time, B stream.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness.checkpoints import format
from harness.checkpoints.best import Best
from harness.core.config.recipe import Recipe
from harness.core.config.speed import Speed
from harness.core.interfaces import Corpus, LanguageModel
from harness.evaluation import protocols
from harness.evaluation.streams import to_streams
from harness.training import resume
from harness.training.averaging import averaged_sgd, averaged_weights, non_monotone
from harness.training.cuda_graph import GraphStep
from harness.training.optimizers import decay_factor, make_optimizer, schedule_factor, set_learning_rate
from harness.training.progress import (
    FINETUNE,
    CurveRow,
    Diverged,
    Hooks,
    Interrupted,
    LossRead,
    TrainingState,
    check_loss,
    stage_over,
    validation_due,
)
from harness.training.step import Autocast, LossScale, Step
from harness.training.windows import epoch_over, next_window
from lm_models.dropout import ColumnGenerator
from lm_models.step import State, targets_are_split, to_device

if TYPE_CHECKING:
    from harness.core.ranks import Ranks

# Steps between two readings of the loss on the host. Each waits for the device, which is free on a CPU and cheap every
# 500 steps on CUDA. Without any, the host would queue steps far ahead of the device, and a request to stop would take
# effect late.
READ_LOSS_EVERY_STEPS = {"cpu": 20, "cuda": 500}


class Trainer:
    """One training run over a corpus. It can be stopped at any step and resumed.

    Args:
        model: an nn.Module; its dropout generator is created and seeded if it has none.
        corpus: splits `train` and `valid`.
        recipe: optimiser, schedule, windows, validation and stages.
        seed: of window lengths and dropout masks.
        folder: receives `resume` (to continue) and `best` (the best model).
        identity: names the run; `resume` refuses a checkpoint with another identity. `model` is copied into `best`.
        autocast: makes the context of each forward pass in training.
        speed: switches that change speed only, rounding aside.
        loss_scale: scale the loss, for float16.
        checkpoint_every_s: seconds between checkpoints.
        hooks: callbacks.
        ranks: the processes of the run, each with its own columns of the batch and a trainer like this one; rank 0
            writes the checkpoints. None for a single process.

    Raises:
        ValueError: a stream gets fewer than 3 tokens, `speed.graph` is set for a softmax with cutoffs or for several
            processes, or these cannot share the batch equally.
        DataError: a stream gets fewer than 2 tokens.
    """

    def __init__(
        self,
        model: LanguageModel,
        corpus: Corpus,
        recipe: Recipe,
        *,
        seed: int,
        folder: Path,
        identity: dict[str, Any],
        autocast: Autocast,
        speed: Speed | None = None,
        loss_scale: bool = False,
        checkpoint_every_s: float = 60.0,
        hooks: Hooks | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        assert isinstance(model, torch.nn.Module)
        self.model, self.module = model, model
        self.best = Best(folder / "best")
        self.corpus, self.recipe, self.folder, self.identity = corpus, recipe, folder, identity
        self.checkpoint_every_s, self.hooks = checkpoint_every_s, hooks or Hooks()
        self.ranks = ranks
        self.speed = _usable(speed or Speed(), model)
        if ranks is not None and self.speed.graph:
            raise ValueError("speed.graph cannot capture the steps of several processes")
        self.device = next(model.parameters()).device
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.window_rng = np.random.Generator(np.random.PCG64(seed))
        # Which columns of the batch this process trains on.
        self.own = slice(0, recipe.batch) if ranks is None else ranks.columns(recipe.batch)
        if model.generator is None:
            model.generator = torch.Generator(self.device) if ranks is None else ColumnGenerator(self.device)
            model.generator.manual_seed(seed)
        self.generator = model.generator
        if isinstance(self.generator, ColumnGenerator):
            self.generator.columns, self.generator.batch = self.own, recipe.batch
        self._cut_split(recipe)
        self.progress = TrainingState(thread_counts=[torch.get_num_threads()])
        if ranks is not None:
            self.progress.process_counts = [ranks.size]
        self.progress.next_validation_tokens = recipe.validation.every_tokens or 0
        self.state: State = self._initial_state()
        self.optimizer = make_optimizer(recipe, self.parameters, in_graph=self.speed.graph)
        self.loss_scale = LossScale(self.device) if loss_scale else None
        self.update = Step(
            model,
            self.parameters,
            self.optimizer,
            clip=recipe.clip,
            by_occurrence=recipe.clip_embedding == "occurrences",
            autocast=autocast,
            folded=self.speed.folded_clip or loss_scale,
            loss_scale=self.loss_scale,
            ranks=ranks,
        )
        self.nll_sum = self.update.nll_sum
        self.graph = GraphStep(self.update, self.state, self.generator) if self.speed.graph else None
        self.loss_read = LossRead()

    def _cut_split(self, recipe: Recipe) -> None:
        """Cut the training split into streams and count the targets of the run."""
        columns, _ = to_streams(self.corpus.splits["train"], recipe.batch)
        self.columns = columns[:, self.own]
        self.num_rows = len(columns)
        self.resident_TB: torch.Tensor | None = None
        if self.num_rows < 3:
            raise ValueError(f"the training split is too short for {recipe.batch} streams: {self.num_rows} rows")
        per_epoch = (self.num_rows - 1) * recipe.batch
        self.stage_tokens = recipe.tokens or (recipe.epochs or 0) * per_epoch
        self.total_tokens = self.stage_tokens + (recipe.finetune.epochs * per_epoch if recipe.finetune else 0)

    def resume(self) -> bool:
        """Continue from the checkpoint in the folder. Returns False without one; see `resume.restore`."""
        return resume.restore(self)

    def save(self) -> None:
        """Write a checkpoint to continue from; see `resume.save`."""
        resume.save(self)

    def fit(self) -> TrainingState:
        """Train to the end of the recipe.

        Returns:
            The final state; the best model is in `folder/best`.

        Raises:
            Interrupted: on request; a checkpoint is saved.
            Diverged: the loss diverged; no checkpoint is saved.
            CheckpointError: a checkpoint could not be written.
        """
        # The caller may have scored the model before, which leaves dropout off.
        self.module.train()
        saved_at = time.monotonic()
        try:
            while not self.progress.done or self.progress.validation_due or self._begin_finetune():
                if self.progress.validation_due:
                    self._validate()
                else:
                    self._step()
                if self._stop_or_save(due=time.monotonic() - saved_at > self.checkpoint_every_s):
                    self.save()
                    saved_at = time.monotonic()
        # Raised between steps or in a validation, which changes no weights: weights and position belong together.
        except Interrupted:
            self.save()
            raise
        self.save()
        return self.progress

    def learning_rate(self) -> float:
        """Learning rate of the next step, before the factor of its window."""
        state, recipe = self.progress, self.recipe
        if state.stage == FINETUNE:
            return recipe.lr
        # awd-lstm-lm's switch builds a new ASGD with args.lr: decays before it have no effect after it.
        base = recipe.lr if state.is_averaging else recipe.lr * decay_factor(recipe, state.epoch)
        return base * schedule_factor(recipe.schedule, state.tokens / self.stage_tokens)

    def switch_to_averaged_sgd(self) -> None:
        """Replace the optimiser by averaged SGD over the same parameters."""
        self.optimizer = self.update.optimizer = averaged_sgd(self.recipe, self.model, self.parameters)

    def whole_state(self) -> State:
        """The carried state of the whole batch."""
        return self.state if self.ranks is None else self.ranks.gather(self.state)

    def nll_nats(self) -> float:
        """Training loss of the whole batch since the last validation. Waits for the device."""
        return float(self.nll_sum) if self.ranks is None else self.ranks.total(self.nll_sum)

    def _initial_state(self) -> State:
        return self.model.initial_state(self.own.stop - self.own.start)

    def _stop_if_asked(self, _: int = 0) -> None:
        self._stop_or_save(due=False)

    def _stop_or_save(self, *, due: bool) -> bool:
        """Stop if any process is asked to. Returns whether a checkpoint is due in any of them."""
        stop = self.hooks.stop()
        if self.ranks is not None:
            stop, due = self.ranks.any(stop, due)
        if stop:
            raise Interrupted(f"step {self.progress.step:,}")
        return due

    def _step(self) -> None:
        """Train on one window; then read the loss, end the epoch and schedule a validation, if due."""
        started = time.perf_counter()
        state, recipe = self.progress, self.recipe
        # Only at the start of a pass: within it, the state is carried from window to window.
        if state.row == 0 and recipe.reset_state == "epoch":
            self.state = self._initial_state()
        capped = state.stage == FINETUNE and recipe.finetune is not None and recipe.finetune.cap_windows
        length, lr_factor = next_window(
            state.row, self.num_rows, recipe.bptt, recipe.windows, self.window_rng, capped=capped
        )
        self._update(state.row, length, lr_factor)
        state.row += length
        state.step += 1
        state.tokens += length * recipe.batch
        state.tokens_since_validation += length * recipe.batch
        pass_over = epoch_over(state.row, self.num_rows, recipe.windows)
        reading_due = state.step - self.loss_read.step >= READ_LOSS_EVERY_STEPS[self.device.type]
        over = pass_over or stage_over(state, recipe)
        # Also before a validation: its clock must not start while training steps are still queued on the device.
        if reading_due or over or validation_due(state, recipe, pass_over=pass_over):
            self._read_loss()
        state.seconds += time.perf_counter() - started
        if pass_over:
            state.epoch += 1
            state.row = 0
        state.done = stage_over(state, recipe)
        state.validation_due = validation_due(state, recipe, pass_over=pass_over)

    def _update(self, row: int, length: int, lr_factor: float) -> None:
        """Forward, backward, clip and step on rows [row, row + length]."""
        self.progress.lr = self.learning_rate()
        set_learning_rate(self.optimizer, self.progress.lr * lr_factor)
        tokens_TB = self._window(row, length)
        if self.graph is None:
            self.state = self.update(tokens_TB, self.state)
            return
        if self.state is not self.graph.state:
            # A new epoch or a resumed run has another state tensor; the graph reads the values at its own address.
            self.graph.load_state(self.state)
        self.graph(tokens_TB)
        self.state = self.graph.state

    def _window(self, row: int, length: int) -> torch.Tensor:
        """Ids (length + 1, B), int64, cut on the device or read from the memory map."""
        # int32 halves the device memory of the ids, and a window is widened when it is cut.
        if self.speed.resident:
            if self.resident_TB is None:
                self.resident_TB = torch.from_numpy(np.ascontiguousarray(self.columns).astype(np.int32)).to(self.device)
            return self.resident_TB[row : row + length + 1].long()
        tokens_TB = torch.from_numpy(np.asarray(self.columns[row : row + length + 1]).astype(np.int64))
        # Without a graph, the step itself sends them: a model with cutoffs first needs them on the host.
        return tokens_TB if self.graph is None else to_device(tokens_TB, self.device)

    def _read_loss(self) -> None:
        """Read the loss on the host. Raises Diverged."""
        state, before = self.progress, self.loss_read
        # This copy waits for the device; nothing else in a step does.
        total = self.nll_nats()
        per_token = (total - before.nll_nats) / max(1, state.tokens_since_validation - before.tokens)
        self.loss_read = LossRead(total, state.tokens_since_validation, state.step)
        check_loss(per_token, self.corpus.vocab_size, state)
        self.hooks.on_step(state, per_token)

    def _validate(self) -> None:
        """Score the validation split, keep the model if it is the best, and extend the learning curve."""
        started = time.perf_counter()
        validation, state = self.recipe.validation, self.progress
        protocol = protocols.streams(validation.streams, validation.warmup, validation.window)
        # The best model is saved inside: it holds the averages that were scored.
        with averaged_weights(self.optimizer):
            scored = protocols.score(
                self.model, self.corpus.splits["valid"], protocol, tick=self._stop_if_asked, ranks=self.ranks
            )
            nll_per_unit = scored.tally.nll_nats / scored.tally.num_units
            if self.ranks is not None:
                nll_per_unit = self.ranks.of_first(nll_per_unit)
            if not math.isfinite(nll_per_unit):
                raise Diverged(f"validation loss became {nll_per_unit} at step {state.step:,}")
            is_best = state.best_nll_per_unit is None or nll_per_unit < state.best_nll_per_unit
            if is_best:
                state.best_nll_per_unit = nll_per_unit
                state.best_epoch, state.best_step = state.epoch, state.step
                self._save_best()
        # A window may pass several points at once; all of them are answered by this validation.
        if validation.every_tokens is not None:
            while state.next_validation_tokens <= state.tokens:
                state.next_validation_tokens += validation.every_tokens
        state.validation_seconds += time.perf_counter() - started
        train_nll_nats = self.nll_nats() / max(1, state.tokens_since_validation)
        recipe = self.recipe
        # The row is made before this validation changes the optimiser, and appended after: the rules compare the new
        # loss with those before it.
        row = CurveRow(
            epoch=state.epoch,
            step=state.step,
            tokens=state.tokens,
            lr=state.lr,
            train_nll_nats=train_nll_nats,
            valid_nll_nats=nll_per_unit,
            is_best=is_best,
            train_seconds=state.seconds,
            validation_seconds=state.validation_seconds,
            averaged=state.is_averaging if recipe.averaging is not None or recipe.finetune is not None else None,
            stage=state.stage if recipe.finetune is not None else None,
        )
        self._apply_stopping_rules(nll_per_unit)
        state.curve.append(row)
        state.validation_due = False
        # In place: a captured graph adds to this address.
        self.nll_sum.zero_()
        state.nll_since_validation, state.tokens_since_validation = 0.0, 0
        self.loss_read = LossRead(step=self.loss_read.step)
        self.hooks.on_validation(row)

    def _apply_stopping_rules(self, latest: float) -> None:
        """If the loss no longer falls, switch to averaged SGD, or end fine-tuning."""
        state, averaging, finetune = self.progress, self.recipe.averaging, self.recipe.finetune
        # The last validation of a run decides nothing that could still be trained.
        if state.done:
            return
        earlier = state.stage_losses()
        if state.stage == FINETUNE and finetune is not None:
            state.done = non_monotone(earlier, latest, finetune.patience)
        elif averaging is not None and not state.is_averaging and non_monotone(earlier, latest, averaging.patience):
            state.averaging_epoch, state.averaging_step = state.epoch, state.step
            self.switch_to_averaged_sgd()

    def _begin_finetune(self) -> bool:
        """Start the second stage from the best model. Returns False if the recipe has none, or it has begun."""
        state = self.progress
        if self.recipe.finetune is None or state.stage == FINETUNE:
            return False
        best = self.best.folder
        format.load_into(self.module, format.load_group(best, format.read_index(best), "model"), best)
        state.stage, state.stage_epoch, state.row, state.done = FINETUNE, state.epoch, 0, False
        self.state = self._initial_state()
        # finetune.py is a new process: no gradients are left over from the first stage.
        self.module.zero_grad(set_to_none=True)
        self.switch_to_averaged_sgd()
        return True

    def _save_best(self) -> None:
        if self.ranks is not None and not self.ranks.is_first:
            return
        meta = {
            "identity": self.identity,
            "model": self.identity["model"],
            "dtype": str(next(self.module.parameters()).dtype).removeprefix("torch."),
            "unit": self.corpus.unit,
            "vocabulary": list(self.corpus.vocabulary),
            "step": self.progress.step,
            "epoch": self.progress.epoch,
        }
        self.best.keep(self.module.state_dict(), meta)


def _usable(speed: Speed, model: LanguageModel) -> Speed:
    """The switches that a model can use. Raises ValueError if it cannot be captured."""
    if not targets_are_split(model):
        return speed
    if speed.graph:
        raise ValueError("speed.graph cannot capture a softmax with cutoffs: its clusters differ in size")
    # Its targets are read on the host for every window, so a copy on the device would never be used.
    return replace(speed, resident=False)
