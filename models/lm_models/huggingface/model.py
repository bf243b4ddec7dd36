"""Load a pretrained causal model and its tokeniser, and give it the interface of `lm_models.step`."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

import torch
from torch import Tensor

from lm_models.huggingface import files as model_files
from lm_models.huggingface.config import Config
from lm_models.huggingface.files import Files
from lm_models.huggingface.tokenizer import Tokenizer
from lm_models.plugin.adapter import Adapter
from lm_models.plugin.base import Model
from lm_models.step import State

# Where the config sets none: most models have at least this, and a longer context costs more memory than it gains.
MOST_CONTEXT = 2048

# Most log-probabilities that are computed at a time: 64 MiB in float32.
PART_LOGITS = 1 << 24


class Pretrained(Model):
    """A causal model of the transformers library, read window by window.

    Args:
        network: the model.
        context: most tokens that a prediction sees.
        stride: predictions per forward pass; None for half of the context.
    """

    def __init__(self, network: Any, context: int, stride: int | None) -> None:
        super().__init__()
        self.network = network
        self.context, self.stride = context, stride

    def forward(self, tokens_TB: Tensor, state: State) -> tuple[Tensor, State]:
        """Log-probabilities (T, B, V) in float32 at least."""
        return torch.log_softmax(_precise(self._logits(tokens_TB)), dim=-1).transpose(0, 1), ()

    def nll(self, tokens_TB: Tensor, targets_TB: Tensor, state: State) -> tuple[Tensor, State]:
        """Loss of each target; log-probabilities of a part of the rows at a time."""
        logits_BTV = self._logits(tokens_TB)
        rows = max(1, PART_LOGITS // (logits_BTV.shape[0] * logits_BTV.shape[-1]))
        parts = []
        for logits_BRV, targets_BR in zip(logits_BTV.split(rows, 1), targets_TB.T.split(rows, 1), strict=True):
            precise_BRV = _precise(logits_BRV)
            chosen_BR = precise_BRV.gather(-1, targets_BR.unsqueeze(-1)).squeeze(-1)
            parts.append(precise_BRV.logsumexp(-1) - chosen_BR)
        return torch.cat(parts, dim=1).T, ()

    def _logits(self, tokens_TB: Tensor) -> Tensor:
        logits: Tensor = self.network(input_ids=tokens_TB.T, use_cache=False).logits
        return logits


def build(config: Config, *, vocab_size: int, kernel: str = "auto") -> Adapter:
    """Load a model; its vocabulary is its own. Raises ValueError as `load` does."""
    return load(config, model_files.find(config))


def load(config: Config, files: Files) -> Adapter:
    """Load the weights.

    Args:
        config: of the model.
        files: as `files.find` returned them.

    Returns:
        The model on the CPU, in evaluation mode.

    Raises:
        ValueError: the files are damaged or not of a causal model, or the context is longer than the model allows.
    """
    with _reading(config.path) as transformers:
        network, report = transformers.AutoModelForCausalLM.from_pretrained(
            files.folder,
            gguf_file=files.gguf,
            dtype=getattr(torch, config.dtype),
            use_safetensors=True,
            output_loading_info=True,
            **_NO_CODE,
        )
    # Weights that no file holds would be random.
    missing = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if missing:
        raise ValueError(f"{config.path}: lacks {len(missing)} of the model's weights, such as {missing[0]}")
    longest = getattr(network.config.get_text_config(), "max_position_embeddings", None)
    context = config.context or min(longest or MOST_CONTEXT, MOST_CONTEXT)
    if longest is not None and context > longest:
        raise ValueError(f"{config.path}: context of {context:,} is more than the model's {longest:,}")
    if (config.stride or 1) > context:
        raise ValueError(f"{config.path}: stride of {config.stride:,} is more than the context of {context:,}")
    return Adapter(Pretrained(network, context, config.stride)).eval()


def load_tokenizer(config: Config, files: Files) -> Tokenizer:
    """Load the tokeniser.

    Its beginning-of-text token precedes every text, or its end-of-text token where it has no other, as in GPT-2.

    Args:
        config: of the model.
        files: as `files.find` returned them.

    Raises:
        ValueError: there is none, or it is not of the `tokenizers` library.
    """
    with _reading(config.path) as transformers:
        found = transformers.AutoTokenizer.from_pretrained(files.folder, gguf_file=files.gguf, **_NO_CODE)
    backend = getattr(found, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(f"{config.path}: its tokeniser has no tokenizer.json, and its bytes cannot be accounted for")
    begin = found.bos_token if found.bos_token is not None else found.eos_token
    return Tokenizer(backend, begin)


_NO_CODE = {"local_files_only": True, "trust_remote_code": False}


@contextmanager
def _reading(path: str) -> Iterator[Any]:
    """The transformers library, quiet; any error that it raises on a file becomes one line."""
    try:
        import transformers
    except ImportError:
        raise ValueError(model_files.NEEDS_EXTRA) from None
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        # Bars that no switch of the library reaches; what goes wrong is raised.
        with redirect_stderr(io.StringIO()):
            yield transformers
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise ValueError(f"{path}: cannot be read: {type(error).__name__}: {text}") from None


def _precise(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
