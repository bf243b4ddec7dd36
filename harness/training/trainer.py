"""Fit a model to a corpus by a recipe. Knows no model by name.

Everything the loop will need to go on is in `Progress`, the model, the optimiser, the carried state and three
random generators; saving those at a window's edge makes a resumed run end with the same bits as one never stopped.
Shape letters: T time, B stream.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.checkpoints import format
from harness.checkpoints.best import Best
from harness.config.recipe import Recipe
from harness.config.speed import Speed
from harness.core.errors import CheckpointError
from harness.core.interfaces import Corpus, LanguageModel
from harness.evaluation import protocols
from harness.evaluation.streams import to_streams
from harness.training.averaging import (
    averaged_sgd,
    averaged_weights,
    left_over_gradients,
    non_monotone,
    restore_gradients,
)
from harness.training.cuda_graph import GraphStep
from harness.training.optimizers import (
    decay_factor,
    load_state,
    make_optimizer,
    schedule_factor,
    set_learning_rate,
    state_to_tensors,
)
from harness.training.progress import (
    FINETUNE,
    Diverged,
    Hooks,
    Interrupted,
    Progress,
    check_loss,
    curve_row,
    stage_over,
    validation_due,
)
from harness.training.step import LossScale, Step
from harness.training.windows import epoch_over, next_window
from models.step import State, targets_are_split, to_device

__all__ = ["Diverged", "Hooks", "Interrupted", "Progress", "Trainer"]

CHECK_EVERY_STEPS = {"cpu": 20, "cuda": 500}
"""Steps without a look at the loss on the host: each look waits for the device, which a CPU is anyway.

An epoch's end looks too, so that epochs shorter than this wait once each. Without any look the host would run ahead of
the device by all that its queue holds, and a leg's end would come late.
"""


class Trainer:
    """One training run over `corpus` that can be stopped anywhere and taken up again.

    folder receives `resume` (all that is needed to go on) and `best` (the kept model).
    identity names the run: a checkpoint of another run is refused. Raises CheckpointError, Diverged, Interrupted.
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
        autocast: Callable[[], Any],
        speed: Speed | None = None,
        loss_scale: bool = False,
        checkpoint_every_s: float = 60.0,
        hooks: Hooks | None = None,
    ) -> None:
        assert isinstance(model, torch.nn.Module)
        self.model, self.module = model, model
        self.best = Best(folder / "best")
        self.corpus, self.recipe, self.folder, self.identity = corpus, recipe, folder, identity
        self.checkpoint_every_s, self.hooks = checkpoint_every_s, hooks or Hooks()
        self.speed = speed or Speed()
        if targets_are_split(model):
            if self.speed.graph:
                raise ValueError("speed.graph cannot capture a softmax with cutoffs: its clusters differ in size")
            # Its targets are read on the host for every window: what is resident would never be used.
            self.speed = replace(self.speed, resident=False)
        self.device = next(model.parameters()).device
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = make_optimizer(recipe, self.parameters, in_graph=self.speed.graph)
        self.window_rng = np.random.Generator(np.random.PCG64(seed))
        if model.generator is None:
            model.generator = torch.Generator(self.device)
            model.generator.manual_seed(seed)
        self.generator = model.generator
        self.columns, _ = to_streams(corpus.splits["train"], recipe.batch)
        self.num_rows = len(self.columns)
        self.resident_TB: torch.Tensor | None = None
        if self.num_rows < 3:
            raise ValueError(f"the training split is too short for {recipe.batch} streams: {self.num_rows} rows")
        per_epoch = (self.num_rows - 1) * recipe.batch
        self.stage_tokens = recipe.tokens or (recipe.epochs or 0) * per_epoch
        self.total_tokens = self.stage_tokens + (recipe.finetune.epochs * per_epoch if recipe.finetune else 0)
        self.progress = Progress(thread_counts=[torch.get_num_threads()])
        if recipe.validation.every_tokens is not None:
            self.progress.next_validation_tokens = recipe.validation.every_tokens
        self.state: State = model.initial_state(recipe.batch)
        self.loss_scale = LossScale(self.device) if loss_scale else None
        self.update = Step(
            model,
            self.parameters,
            self.optimizer,
            clip=recipe.clip,
            autocast=autocast,
            folded=self.speed.folded_clip or loss_scale,
            loss_scale=self.loss_scale,
        )
        self.nll_sum = self.update.nll_sum
        self.graph = GraphStep(self.update, self.state, self.generator) if self.speed.graph else None
        self.nll_looked_at = 0.0
        self.tokens_looked_at = 0
        self.step_looked_at = 0

    def resume(self) -> bool:
        """Take up `folder/resume` where there is one. Returns whether there was."""
        folder = self.folder / "resume"
        if not (folder / format.INDEX).is_file():
            return False
        try:
            self._restore(folder)
        except CheckpointError as error:
            raise CheckpointError(f"{error}; --again starts the run afresh") from error
        if self.progress.thread_counts[-1] != torch.get_num_threads():
            # Sums are split otherwise over other threads: the result is as good, but no longer the same bits.
            self.progress.thread_counts.append(torch.get_num_threads())
        return True

    def _restore(self, folder: Path) -> None:
        index = format.read_index(folder)
        if index.identity != self.identity:
            raise CheckpointError(f"{folder} belongs to another run or was written by other code")
        format.load_into(self.module, format.load_group(folder, index, "model"), folder)
        saved = index.training
        self.progress = Progress(**saved["progress"])
        self.best.restore(index.best)
        if self.progress.is_averaging:
            self._average()
        load_state(self.optimizer, format.load_group(folder, index, "optimizer"))
        rest = format.load_group(folder, index, "state")
        self.state = format.restore_state(self.state, rest)
        self.generator.set_state(rest["dropout_generator"])
        torch.set_rng_state(rest["torch_generator"])
        restore_gradients(self.parameters, rest)
        self.window_rng.bit_generator.state = saved["window_rng"]
        if saved["trained_by"] is not None:
            model: Any = self.module
            model.trained_by = saved["trained_by"]
        if self.loss_scale is not None:
            self.loss_scale.restore(rest)
        self.nll_sum.fill_(self.progress.nll_since_validation)
        self.nll_looked_at = saved["nll_looked_at"]
        self.tokens_looked_at = saved["tokens_looked_at"]
        self.step_looked_at = self.progress.step

    def save(self) -> None:
        """Everything needed to go on from here, to `folder/resume`."""
        self.progress.nll_since_validation = float(self.nll_sum)
        rest = format.flatten_state(self.state)
        rest["dropout_generator"] = self.generator.get_state()
        rest["torch_generator"] = torch.get_rng_state()
        if self.loss_scale is not None:
            rest.update(self.loss_scale.tensors())
        rest.update(left_over_gradients(self.optimizer, self.parameters))
        groups = {"model": self.module.state_dict(), "optimizer": state_to_tensors(self.optimizer), "state": rest}
        meta = {
            "identity": self.identity,
            "progress": asdict(self.progress),
            "window_rng": self.window_rng.bit_generator.state,
            "trained_by": getattr(self.module, "trained_by", None),
            "nll_looked_at": self.nll_looked_at,
            "tokens_looked_at": self.tokens_looked_at,
            "best": self.best.index,
        }
        format.save(self.folder / "resume", groups, meta)
        self.best.is_saved()

    def fit(self) -> Progress:
        """Train to the recipe's end; the kept model lies in `folder/best`."""
        self.module.train()
        saved_at = time.monotonic()
        try:
            while not self.progress.done or self.progress.validation_due or self._begin_finetune():
                if self.progress.validation_due:
                    self._validate()
                else:
                    self._step()
                self._stop_if_asked()
                if time.monotonic() - saved_at > self.checkpoint_every_s:
                    self.save()
                    saved_at = time.monotonic()
        except Interrupted:
            self.save()
            raise
        self.save()
        return self.progress

    def _stop_if_asked(self, _: int = 0) -> None:
        if self.hooks.stop():
            raise Interrupted(f"step {self.progress.step:,}")

    def _step(self) -> None:
        """One BPTT window, and whatever falls due after it: a look at the loss, a validation, the epoch's end."""
        started = time.perf_counter()
        progress, recipe = self.progress, self.recipe
        if progress.row == 0 and recipe.reset_state == "epoch":
            self.state = self.model.initial_state(recipe.batch)
        length, scale = next_window(progress.row, self.num_rows, recipe.bptt, recipe.windows, self.window_rng)
        self._update(progress.row, length, scale)
        progress.row += length
        progress.step += 1
        progress.tokens += length * recipe.batch
        progress.tokens_since_validation += length * recipe.batch
        pass_over = epoch_over(progress.row, self.num_rows, recipe.windows)
        unseen = progress.step - self.step_looked_at >= CHECK_EVERY_STEPS[self.device.type]
        over = pass_over or stage_over(progress, recipe)
        # Before a validation as well: its clock must not run while steps of training still wait on the device.
        if unseen or over or validation_due(progress, recipe, pass_over=pass_over):
            self._look()
        progress.seconds += time.perf_counter() - started
        if pass_over:
            progress.epoch += 1
            progress.row = 0
        progress.done = stage_over(progress, recipe)
        progress.validation_due = validation_due(progress, recipe, pass_over=pass_over)

    def _update(self, row: int, length: int, scale: float) -> None:
        """Forward, backward, clip and step on rows [row, row + length]."""
        self.progress.lr = self.learning_rate()
        set_learning_rate(self.optimizer, self.progress.lr * scale)
        tokens_TB = self._window(row, length)
        if self.graph is None:
            self.state = self.update(tokens_TB, self.state)
            return
        if self.state is not self.graph.state:
            self.graph.load_state(self.state)
        self.graph(tokens_TB)
        self.state = self.graph.state

    def _window(self, row: int, length: int) -> torch.Tensor:
        """Ids (length + 1, B), int64: cut on the device, or read from the map for the step to send."""
        if self.speed.resident:
            if self.resident_TB is None:
                self.resident_TB = torch.from_numpy(np.ascontiguousarray(self.columns).astype(np.int32)).to(self.device)
            return self.resident_TB[row : row + length + 1].long()
        tokens_TB = torch.from_numpy(np.asarray(self.columns[row : row + length + 1]).astype(np.int64))
        return tokens_TB if self.graph is None else to_device(tokens_TB, self.device)

    def learning_rate(self) -> float:
        """lr of the next step before the window's own scaling."""
        progress, recipe = self.progress, self.recipe
        if progress.stage == FINETUNE:
            return recipe.lr
        base = recipe.lr if progress.is_averaging else recipe.lr * decay_factor(recipe, progress.epoch)
        return base * schedule_factor(recipe.schedule, progress.tokens / self.stage_tokens)

    def _begin_finetune(self) -> bool:
        """Take the kept model up again for the second stage, if there is one to come. Returns whether there is."""
        progress = self.progress
        if self.recipe.finetune is None or progress.stage == FINETUNE:
            return False
        best = self.best.folder
        format.load_into(self.module, format.load_group(best, format.read_index(best), "model"), best)
        progress.stage, progress.stage_epoch, progress.row, progress.done = FINETUNE, progress.epoch, 0, False
        self.state = self.model.initial_state(self.recipe.batch)
        self.module.zero_grad(set_to_none=True)
        self._average()
        return True

    def _look(self) -> None:
        """Bring the loss to the host; raise Diverged where it is not finite or has run away."""
        total = float(self.nll_sum)
        tokens = self.progress.tokens_since_validation - self.tokens_looked_at
        per_token = (total - self.nll_looked_at) / max(1, tokens)
        self.nll_looked_at, self.tokens_looked_at = total, self.progress.tokens_since_validation
        self.step_looked_at = self.progress.step
        check_loss(per_token, self.corpus.vocab_size, self.progress)
        self.hooks.on_step(self.progress, per_token)

    def _validate(self) -> None:
        """Score the validation split under `streams`, keep the model where it is the best so far, extend the curve."""
        started = time.perf_counter()
        validation, progress = self.recipe.validation, self.progress
        protocol = protocols.streams(validation.streams, validation.warmup, validation.window)
        with averaged_weights(self.optimizer):
            scored = protocols.score(self.model, self.corpus.splits["valid"], protocol, tick=self._stop_if_asked)
            nll_per_unit = scored.tally.nll_nats / scored.tally.num_units
            if not math.isfinite(nll_per_unit):
                raise Diverged(f"validation loss became {nll_per_unit} at step {progress.step:,}")
            is_best = progress.best_nll_per_unit is None or nll_per_unit < progress.best_nll_per_unit
            if is_best:
                progress.best_nll_per_unit = nll_per_unit
                progress.best_epoch, progress.best_step = progress.epoch, progress.step
                self._keep()
        if validation.every_tokens is not None:
            while progress.next_validation_tokens <= progress.tokens:
                progress.next_validation_tokens += validation.every_tokens
        progress.validation_seconds += time.perf_counter() - started
        row = curve_row(
            progress,
            self.recipe,
            train_nll_nats=float(self.nll_sum) / max(1, progress.tokens_since_validation),
            valid_nll_nats=nll_per_unit,
            is_best=is_best,
        )
        self._turn(nll_per_unit)
        progress.curve.append(row)
        progress.validation_due = False
        self.nll_sum.zero_()
        progress.nll_since_validation, progress.tokens_since_validation = 0.0, 0
        self.nll_looked_at, self.tokens_looked_at = 0.0, 0
        self.hooks.on_validation(row)

    def _turn(self, latest: float) -> None:
        """What a validation that is no better brings about: averaging, or the end of the second stage."""
        progress, averaging, finetune = self.progress, self.recipe.averaging, self.recipe.finetune
        if progress.done:
            return
        earlier = progress.stage_values()
        if progress.stage == FINETUNE and finetune is not None:
            progress.done = non_monotone(earlier, latest, finetune.patience)
        elif averaging is not None and not progress.is_averaging and non_monotone(earlier, latest, averaging.patience):
            progress.averaging_epoch, progress.averaging_step = progress.epoch, progress.step
            self._average()

    def _average(self) -> None:
        """Hand the parameters over to averaged SGD."""
        self.optimizer = self.update.optimizer = averaged_sgd(self.recipe, self.model, self.parameters)

    def _keep(self) -> None:
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
