"""Language models: nn.Modules with a checked config, in one lazy table.

`config_class` returns the dataclass that a suite's `model:` block is parsed into, `build` the module. A module scores
one BPTT window per call and carries its state to the next; `lm_models.step` defines that interface. `KERNEL_OPS` names
the op of `kernels` that a model runs on. Importing this package imports no torch.

To add a model: a package with `config.py` (a dataclass `Config`, no torch) and `model.py` (a function `build`), and a
line in BUILDERS. A model outside of this package needs neither: its builder is an import path, `my_model:MyModel`, or
the name of an entry point; see `lm_models.plugin`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from lm_kernels.entry_points import added
from lm_models.plugin import loader

if TYPE_CHECKING:
    from torch import nn


__all__ = [
    "BUILDERS",
    "COMPRESSORS",
    "KERNEL_OPS",
    "PRETRAINED",
    "ModelConfig",
    "build",
    "builders",
    "config_class",
    "huggingface",
    "is_fitted",
    "is_known",
    "ngram",
    "plugin",
    "source_of",
]


class ModelConfig(Protocol):
    """A frozen dataclass that checks its values and computes sizes without building a model."""

    def num_parameters(self, vocab_size: int) -> int: ...

    def forward_flops_per_token(self, vocab_size: int) -> int | None:
        """FLOPs of matrix products, two per multiply-add; a backward pass takes twice as many. None if unknown."""
        ...


# name -> package with `config:Config` (imports no torch) and `model:build`
BUILDERS = {
    "compressor": "lm_models.compressor",
    "awd-lstm": "lm_models.awd_lstm",
    "qrnn": "lm_models.qrnn",
    "mingru": "lm_models.mingru",
    "ngram": "lm_models.ngram",
    "transformer": "lm_models.transformer",
    "markov-oracle": "lm_models.markov",
    "hf": "lm_models.huggingface",
}

# Builders of models that have weights and a tokeniser of their own: they are scored on the text itself.
PRETRAINED = ("hf",)

# Builders without a module: the harness scores the files that they write.
COMPRESSORS = ("compressor",)

# name -> op of `kernels.KERNELS` that its layers run on; other models need none
KERNEL_OPS = {"awd-lstm": "lstm", "qrnn": "fo_pool", "mingru": "fo_pool"}


def builders() -> list[str]:
    """Names of the package's own builders and of those that installed packages add."""
    return [*BUILDERS, *added("models", BUILDERS)]


def is_known(builder: str) -> bool:
    """Whether a builder is a name of `builders` or an import path, which need not exist."""
    return builder in BUILDERS or loader.import_path(builder) is not None


def is_fitted(builder: str) -> bool:
    """Whether a model learns by its method `fit` and not by gradients. A model from outside must be importable."""
    path = None if builder in BUILDERS else loader.import_path(builder)
    if path is None:
        return builder == "ngram"
    from lm_models.plugin.base import Model

    return loader.load(path).fit is not Model.fit


def source_of(builder: str) -> dict[str, str | None] | None:
    """Module, version and checksum of a model from outside; None for the package's own. It must be importable."""
    path = None if builder in BUILDERS else loader.import_path(builder)
    if path is None:
        return None
    from lm_models.plugin import source

    return source.describe(loader.load(path).__module__)


def config_class(builder: str) -> type[Any]:
    """Config dataclass of a builder.

    Raises:
        KeyError: the name is unknown.
        ValueError: a model from outside cannot be imported or used.
    """
    path = None if builder in BUILDERS else loader.import_path(builder)
    if path is not None:
        return loader.config_class(path)
    config: type[Any] = import_module(f"{BUILDERS[builder]}.config").Config
    return config


def build(builder: str, config: ModelConfig, *, vocab_size: int, kernel: str = "auto") -> nn.Module:
    """Build a model.

    Args:
        builder: a name or import path.
        config: an instance of `config_class(builder)`.
        vocab_size: number of symbols V.
        kernel: backend of the model's op.

    Returns:
        A module with the interface of `lm_models.step`.

    Raises:
        ValueError: config, vocabulary and kernel do not fit.
    """
    if builder not in BUILDERS:
        return loader.build(config, vocab_size=vocab_size)
    if builder in COMPRESSORS:
        raise ValueError(f"a {builder} has no weights and predicts no token: a suite scores the files that it writes")
    module: nn.Module = import_module(f"{BUILDERS[builder]}.model").build(config, vocab_size=vocab_size, kernel=kernel)
    return module
