"""Language models: nn.Modules with a checked config, in one lazy table.

`config_class` returns the dataclass that a suite's `model:` block is parsed into, `build` the module. A module scores
one BPTT window per call and carries its state to the next; `models.step` defines that interface. `KERNEL_OPS` names
the op of `kernels` that a model runs on. Importing this package imports no torch.

To add a model: a package with `config.py` (a dataclass `Config`, no torch) and `model.py` (a function `build`), and a
line in BUILDERS.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import nn


__all__ = ["BUILDERS", "KERNEL_OPS", "ModelConfig", "build", "config_class"]


class ModelConfig(Protocol):
    """A frozen dataclass that checks its values and computes sizes without building a model."""

    def num_parameters(self, vocab_size: int) -> int: ...

    def forward_flops_per_token(self, vocab_size: int) -> int:
        """FLOPs of matrix products, two per multiply-add; a backward pass takes twice as many."""
        ...


# name -> package with `config:Config` (imports no torch) and `model:build`
BUILDERS = {
    "awd-lstm": "models.awd_lstm",
    "qrnn": "models.qrnn",
    "markov-oracle": "models.markov",
}

# name -> op of `kernels.KERNELS` that its layers run on; other models need none
KERNEL_OPS = {"awd-lstm": "lstm", "qrnn": "fo_pool"}


def config_class(builder: str) -> type[Any]:
    """Config dataclass of a builder. Raises KeyError for an unknown name."""
    config: type[Any] = import_module(f"{BUILDERS[builder]}.config").Config
    return config


def build(builder: str, config: ModelConfig, *, vocab_size: int, kernel: str = "auto") -> nn.Module:
    """Build a model.

    Args:
        builder: a key of BUILDERS.
        config: an instance of `config_class(builder)`.
        vocab_size: number of symbols V.
        kernel: backend of the model's op.

    Returns:
        A module with the interface of `models.step`.

    Raises:
        ValueError: config, vocabulary and kernel do not fit.
    """
    module: nn.Module = import_module(f"{BUILDERS[builder]}.model").build(config, vocab_size=vocab_size, kernel=kernel)
    return module
