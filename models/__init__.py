"""Language models as nn.Modules, named in one lazy table. Importing this package imports no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import nn


class ModelConfig(Protocol):
    """A frozen dataclass that checks itself and knows its own size without building anything."""

    def num_parameters(self, vocab_size: int) -> int: ...

    def forward_flops_per_token(self, vocab_size: int) -> int:
        """Multiply-adds of matrix products counted twice; the backward pass is twice the forward."""
        ...


# name -> package that holds `config:Config` (imports no torch) and `model:build`
BUILDERS = {
    "awd-lstm": "models.awd_lstm",
    "qrnn": "models.qrnn",
    "markov-oracle": "models.markov",
}

KERNEL_OPS = {"awd-lstm": "lstm", "qrnn": "fo_pool"}
"""builder -> the op of `kernels.KERNELS` its layers run on; a builder that is not here needs none."""


def config_class(builder: str) -> type[Any]:
    """The config dataclass of a builder. Raises KeyError for an unknown name."""
    config: type[Any] = import_module(f"{BUILDERS[builder]}.config").Config
    return config


def build(builder: str, config: ModelConfig, *, vocab_size: int, kernel: str = "auto") -> nn.Module:
    """Build the named model. Raises ValueError where config, vocabulary and kernel do not fit."""
    module: nn.Module = import_module(f"{BUILDERS[builder]}.model").build(config, vocab_size=vocab_size, kernel=kernel)
    return module
