"""The `recipe` block of a suite: how to train. Frozen, checks itself, imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lm_models.config import LATER


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Learning rate over the whole run, as a factor of `lr`.

    Attributes:
        kind: `constant` is 1 throughout; `linear` and `cosine` fall to `final` after `flat`.
        flat: share of the run before the fall; 0 starts the fall where the warmup ends.
        final: factor at the end.
        warmup: share of the run in which the factor first rises from 0.
    """

    __pydantic_config__ = {"extra": "forbid"}

    kind: Literal["constant", "linear", "cosine"] = "constant"
    flat: float = 0.0
    final: float = 0.0
    warmup: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flat", "final", "warmup"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {value}")
        # A fall that begins during the rise has no defined factor.
        if self.warmup > 0 and self.flat and self.warmup > self.flat:
            raise ValueError(f"warmup ({self.warmup}) must not outlast flat ({self.flat})")


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSampling:
    """Random window lengths, as in awd-lstm-lm's main.py: max(`minimum`, int(normal(base, `std`))).

    Attributes:
        half_probability: chance that base is BPTT / 2 instead of BPTT.
        std: standard deviation of the length, in tokens.
        minimum: shortest window, in tokens.
        scale_lr: multiply the step's learning rate by length / BPTT.
        multiple: round the length up or down to a multiple of this, at random and with the same mean. CUDA graphs and
            compiled kernels are prepared per length, so fewer lengths are faster.
    """

    __pydantic_config__ = {"extra": "forbid"}

    half_probability: float = 0.05
    std: float = 5.0
    minimum: int = 5
    scale_lr: bool = True
    multiple: int = field(default=1, metadata=LATER)

    def __post_init__(self) -> None:
        if not 0 <= self.half_probability <= 1:
            raise ValueError(f"half_probability must be in [0, 1], got {self.half_probability}")
        if self.std < 0:
            raise ValueError(f"std must not be negative, got {self.std}")
        if self.minimum < 1:
            raise ValueError(f"minimum must be at least 1, got {self.minimum}")
        if self.multiple < 1:
            raise ValueError(f"multiple must be at least 1, got {self.multiple}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """When to validate during training, and how. The protocol is `streams`; the best model is the one scored.

    Attributes:
        every_epochs: passes over the training split between two validations.
        every_tokens: tokens between two validations; replaces `every_epochs` if set.
        streams: text columns scored in parallel.
        warmup: unscored tokens that each stream but the first reads first.
        window: tokens per forward pass.
    """

    __pydantic_config__ = {"extra": "forbid"}

    every_epochs: int = 1
    every_tokens: int | None = None
    streams: int = 10
    warmup: int = 0
    window: int = 512

    def __post_init__(self) -> None:
        for name in ("every_epochs", "streams", "window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.every_tokens is not None and self.every_tokens < 1:
            raise ValueError(f"every_tokens must be at least 1, got {self.every_tokens}")
        if self.warmup < 0:
            raise ValueError(f"warmup must not be negative, got {self.warmup}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Averaging:
    """The switch from SGD to averaged SGD (NT-ASGD, Merity et al. 2017, arXiv:1708.02182).

    SGD switches, once, at a validation whose loss exceeds the minimum of all earlier ones but the last `patience`. From
    then on validation and the best model use the average, the learning rate is `lr` again and `decay_at` has no effect,
    as in awd-lstm-lm.

    Attributes:
        kind: the only rule there is.
        patience: validations that may be worse before the switch.
        official_handover: stop training the adaptive softmax's tail vectors and biases at the switch. awd-lstm-lm does
            so by accident: it hands only the model's parameters to the new optimiser, so the gradients of the others
            accumulate and still count in the clipped norm.
    """

    __pydantic_config__ = {"extra": "forbid"}

    kind: Literal["non-monotone"] = "non-monotone"
    # `nonmono` of awd-lstm-lm's main.py.
    patience: int = 5
    official_handover: bool = False

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ValueError(f"patience must be at least 1, got {self.patience}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finetune:
    """A second stage: averaged SGD at `lr` from the best model on (awd-lstm-lm, finetune.py).

    The best model of both stages is scored.

    Attributes:
        epochs: longest the stage lasts.
        patience: the stage ends earlier at the validation where `Averaging` of this patience would switch.
        cap_windows: sampled windows have at most BPTT + 10 tokens in this stage, as in finetune.py; main.py has no cap.
    """

    __pydantic_config__ = {"extra": "forbid"}

    epochs: int
    patience: int = 5
    cap_windows: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        for name in ("epochs", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Optimiser, schedule, batching and stopping rule.

    Attributes:
        optimizer: `adam` or `sgd`.
        lr: base learning rate.
        batch: parallel streams B.
        bptt: tokens per window T.
        epochs, tokens: length of training; exactly one is given.
        betas: Adam's moment decays.
        weight_decay: L2 term added to the gradient, as awd-lstm-lm does, not decoupled.
        clip: largest gradient norm over all parameters; 0 does not clip.
        clip_embedding: what of the embedding enters that norm: `sum`, its gradient, or `occurrences`, the gradient of
            each input token on its own, as in TensorFlow.
        decay_at: epochs after whose validation lr is multiplied by `decay_factor`.
        decay_factor: factor of lr at each of them.
        schedule: factor of lr over the run.
        windows: random window lengths; None uses exactly `bptt`.
        reset_state: zero the state at the start of each `epoch`, as awd-lstm-lm does, or `never`.
        validation: when and how to validate.
        averaging, finetune: stages of averaged SGD; they need `optimizer: sgd`.
    """

    __pydantic_config__ = {"extra": "forbid"}

    optimizer: Literal["adam", "sgd"]
    lr: float
    batch: int
    bptt: int
    epochs: int | None = None
    tokens: int | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip: float = 0.0
    clip_embedding: Literal["sum", "occurrences"] = field(default="sum", metadata=LATER)
    decay_at: tuple[int, ...] = ()
    decay_factor: float = 0.1
    schedule: Schedule = field(default_factory=Schedule)
    windows: WindowSampling | None = None
    reset_state: Literal["epoch", "never"] = "epoch"
    validation: Validation = field(default_factory=Validation)
    averaging: Averaging | None = field(default=None, metadata=LATER)
    finetune: Finetune | None = field(default=None, metadata=LATER)

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.tokens is None):
            raise ValueError("exactly one of epochs and tokens must be given")
        for name in ("batch", "bptt", "epochs", "tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"lr must be positive, got {self.lr}")
        # At 1, Adam's bias correction 1 - beta^t would be 0 and the step a division by it.
        if any(not 0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be in [0, 1), got {self.betas}")
        for name in ("clip", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 < self.decay_factor <= 1:
            raise ValueError(f"decay_factor must be in (0, 1], got {self.decay_factor}")
        if list(self.decay_at) != sorted(set(self.decay_at)) or any(epoch < 1 for epoch in self.decay_at):
            raise ValueError(f"decay_at must be rising epochs from 1, got {list(self.decay_at)}")
        self._check_stages()

    def _check_stages(self) -> None:
        for name in ("averaging", "finetune"):
            if getattr(self, name) is not None and self.optimizer != "sgd":
                raise ValueError(f"{name} needs optimizer: sgd, got {self.optimizer}")
        if self.finetune is not None and self.finetune.cap_windows and self.windows is None:
            raise ValueError("finetune.cap_windows needs windows: without them every window has bptt tokens")
