"""How to train: one frozen, self-checking block of a suite. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from models.config import LATER


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Learning rate over the whole run, as a factor of `lr`.

    constant: 1 throughout. linear: 1 until `flat` of the run is done, then linear to `final`.
    cosine: the same with half a cosine. `warmup` is the share of the run that rises from 0 first; with
    `flat` left at 0, the fall begins where the warmup ends.
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
        if self.warmup > 0 and self.flat and self.warmup > self.flat:
            raise ValueError(f"warmup ({self.warmup}) must not outlast flat ({self.flat})")


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSampling:
    """The official loop's random window lengths (awd-lstm-lm, main.py).

    With probability 1 - `half_probability` the base is BPTT, else half of it; the length is
    max(`minimum`, int(normal(base, `std`))). `multiple` above 1 then rounds it up or down to a multiple of that, by
    chance and so that its mean stays: fewer distinct lengths, for code that prepares each. `scale_lr` multiplies the
    step's learning rate by length / BPTT.
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
    """When and how the kept model is chosen during training. The protocol is `streams`.

    every_epochs counts passes over the training split; every_tokens, where set, replaces it.
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
    """When SGD turns to averaged SGD (NT-ASGD, arXiv:1708.02182): once and for good, at a validation whose loss is
    above the least of all but the last `patience` of those before it.

    From then on validation and the kept model use the average, and the learning rate is `lr` again, as in the official
    code; decay_at no longer acts. official_handover leaves out of training what the official code does not hand over:
    the adaptive softmax's tail vectors and their biases, whose gradients add up from step to step and count in the
    clipped norm.
    """

    __pydantic_config__ = {"extra": "forbid"}

    kind: Literal["non-monotone"] = "non-monotone"
    patience: int = 5
    official_handover: bool = False

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ValueError(f"patience must be at least 1, got {self.patience}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finetune:
    """A second stage: averaged SGD from its first step, begun from the kept model, at `lr` (awd-lstm-lm, finetune.py).

    It ends after `epochs`, or at the validation where `Averaging` of the same patience would switch; the best model of
    both stages is kept.
    """

    __pydantic_config__ = {"extra": "forbid"}

    epochs: int
    patience: int = 5

    def __post_init__(self) -> None:
        for name in ("epochs", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Optimiser, schedule, batching and stopping. Either `epochs` or `tokens` says how long.

    weight_decay is L2 in the gradient, as the official code's. decay_at lists epochs after whose
    validation lr is multiplied by decay_factor. clip is the gradient norm over all parameters, 0 for none.
    windows: absent for windows of exactly BPTT. reset_state: `epoch` as the official code, or `never`. averaging and
    finetune, where given, are of SGD.
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
        if any(not 0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be in [0, 1), got {self.betas}")
        if self.clip < 0:
            raise ValueError(f"clip must not be negative, got {self.clip}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")
        if not 0 < self.decay_factor <= 1:
            raise ValueError(f"decay_factor must be in (0, 1], got {self.decay_factor}")
        if list(self.decay_at) != sorted(set(self.decay_at)) or any(epoch < 1 for epoch in self.decay_at):
            raise ValueError(f"decay_at must be rising epochs from 1, got {list(self.decay_at)}")
        for name in ("averaging", "finetune"):
            if getattr(self, name) is not None and self.optimizer != "sgd":
                raise ValueError(f"{name} needs optimizer: sgd, got {self.optimizer}")
