"""Config of `builder: hf`. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from lm_models.config import check_size

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A pretrained model with a tokeniser of its own, and how it reads a text. It is scored and not trained.

    Attributes:
        path: a folder of safetensors, a GGUF file, `package:NAME/FILE` in an installed package, or a model's id on the
            hub, which needs a `revision`.
        revision: commit of the model on the hub, 40 hexadecimal digits: a branch would change under the same name.
        dtype: of the weights and the forward pass; the softmax is taken in float32 at least.
        context: most tokens that a prediction sees; None for the model's maximum, at most 2,048.
        stride: predictions per forward pass; None for half of the context.
        first_bytes: how much of each text is read, cut back to a whole character; None for all of it.
        detokenizer: `wikitext` undoes the spaces of WikiText's tokens before the text is scored.
    """

    __pydantic_config__ = {"extra": "forbid"}

    path: str
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    context: int | None = None
    stride: int | None = None
    first_bytes: int | None = None
    detokenizer: Literal["none", "wikitext"] = "none"

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("path must name a folder, a GGUF file or a model of the hub")
        if self.revision is not None and not _COMMIT.fullmatch(self.revision):
            raise ValueError(f"revision must be a commit of 40 hexadecimal digits, got {self.revision!r}")
        for name in ("context", "stride", "first_bytes"):
            value = getattr(self, name)
            if value is not None:
                check_size(name, value)
        if self.context is not None and (self.stride or 1) > self.context:
            raise ValueError(f"stride of {self.stride} is more than the context of {self.context}")

    def num_parameters(self, vocab_size: int) -> int:
        """Parameters that a recipe could train: none."""
        return 0

    def forward_flops_per_token(self, vocab_size: int) -> int | None:
        """Unknown before the files are read."""
        return None
