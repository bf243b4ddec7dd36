"""Config of `builder: compressor`. Imports no library of a compressor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Method = Literal["gzip", "bzip2", "xz", "zstd", "brotli", "ppmd"]

# Lowest and highest level. That of ppmd is the order of its model.
LEVELS: dict[Method, tuple[int, int]] = {
    "gzip": (1, 9),
    "bzip2": (1, 9),
    "xz": (0, 9),
    "zstd": (1, 22),
    "brotli": (0, 11),
    "ppmd": (2, 64),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A general-purpose compressor, scored by the bytes of the files that it writes.

    Attributes:
        method: `gzip`, `bzip2`, `xz`, `zstd`, `brotli` or `ppmd`.
        level: as on the command line of the method; for `ppmd` the order of its model.
        extreme: for `xz`: search longer, as `xz -9e` does.
    """

    __pydantic_config__ = {"extra": "forbid"}

    method: Method
    level: int
    extreme: bool = False

    def __post_init__(self) -> None:
        lowest, highest = LEVELS[self.method]
        if not lowest <= self.level <= highest:
            what = "the order of ppmd" if self.method == "ppmd" else self.method
            raise ValueError(f"level of {what} must be in {lowest}..{highest}, got {self.level}")
        if self.extreme and self.method != "xz":
            raise ValueError(f"extreme is a setting of xz, not of {self.method}")

    def num_parameters(self, vocab_size: int) -> int:
        """0: nothing is learned before the text."""
        return 0

    def forward_flops_per_token(self, vocab_size: int) -> int | None:
        """Unknown."""
        return None
