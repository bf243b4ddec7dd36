"""A score, the sums it is made of, and the protocol it was taken under."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.core.audits import ScoreAudit
from harness.core.json_values import FILE_BLOCK, NullableNumber
from lm_models.config import LATER


@dataclass(frozen=True, slots=True)
class TextSize:
    """Size of a piece of text. A character counts where its first byte is, a word where its first character is.

    Attributes:
        num_bytes: of UTF-8.
        num_chars: Unicode code points; None if the bytes are not UTF-8.
        num_words: pieces between white space, without `<eos>`; None if the bytes are not UTF-8.
    """

    __pydantic_config__ = FILE_BLOCK

    num_bytes: int
    num_chars: int | None
    num_words: int | None

    def __add__(self, other: TextSize) -> TextSize:
        return TextSize(
            self.num_bytes + other.num_bytes,
            None if self.num_chars is None or other.num_chars is None else self.num_chars + other.num_chars,
            None if self.num_words is None or other.num_words is None else self.num_words + other.num_words,
        )


@dataclass(frozen=True, slots=True)
class Tally:
    """Summed loss and its denominators. `core.metrics` divides, once.

    Attributes:
        nll_nats: float64 sum of -ln p over the scored tokens; NaN if the model diverged.
        num_targets: tokens that were scored.
        num_units: what the metric of the dataset's unit divides by.
        num_dropped: tokens of the split that were never predicted, the first one included.
        num_bytes, num_chars, num_words: of the text of the scored tokens, as `TextSize` counts; None if
            unknown.
    """

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}

    nll_nats: NullableNumber
    num_targets: int
    num_units: int
    num_dropped: int
    num_bytes: int | None = field(default=None, metadata=LATER)
    num_chars: int | None = field(default=None, metadata=LATER)
    num_words: int | None = field(default=None, metadata=LATER)

    def with_text(self, size: TextSize) -> Tally:
        """The tally with the size of its scored text."""
        return replace(self, num_bytes=size.num_bytes, num_chars=size.num_chars, num_words=size.num_words)


@dataclass(frozen=True, slots=True)
class EvaluationProtocol:
    """How a split becomes a Tally: `exact`, `official` or `streams`, or an adaptive protocol.

    A suite asks for one; a Score holds the one applied, which a short split may cut.

    Attributes:
        name: of the protocol.
        num_streams: text columns scored in parallel.
        warmup: unscored tokens that each stream but the first reads before its first target.
        window: tokens per forward pass.
        carried_state: whether the state passes from one window to the next.
        targets: which tokens are predicted, in words.
        denominator: what the loss is divided by, in words.
    """

    __pydantic_config__ = FILE_BLOCK

    name: str
    num_streams: int
    warmup: int
    window: int
    carried_state: bool
    targets: str
    denominator: str


@dataclass(frozen=True, slots=True)
class Pieces:
    """How one stream was scored in pieces side by side: `harness.evaluation.joined`.

    Attributes:
        num_pieces: of the text.
        warmup: tokens that each piece but the first read before it, to guess the state at its beginning.
        num_again: scores of a piece beyond its first, from the end of the piece before.
        largest_difference: of the state where a piece ends from that where the next one began, relative to the largest
            value of the layer's state there, in roundings: 2^-23, or 2^-52 for a state in float64.
    """

    __pydantic_config__ = FILE_BLOCK

    num_pieces: int
    warmup: int
    num_again: int
    largest_difference: NullableNumber


@dataclass(frozen=True, slots=True)
class TargetFile:
    """A file in the run's folder with the loss and the bytes of each target: `harness.results.target_files`.

    `first_byte` and `text_sha256` are those of `TargetLosses`.
    """

    __pydantic_config__ = FILE_BLOCK

    file: str
    sha256: str
    first_byte: int
    text_sha256: str


@dataclass(frozen=True, slots=True)
class CodedFile:
    """A file that a compressor wrote, which gave the text back.

    Attributes:
        splits: whose text is in it, in this order.
        text_bytes: of that text.
        file_bytes: of the file.
        compress_s, decompress_s: seconds.
    """

    __pydantic_config__ = FILE_BLOCK

    splits: tuple[str, ...]
    text_bytes: int
    file_bytes: int
    compress_s: NullableNumber
    decompress_s: NullableNumber


@dataclass(frozen=True, slots=True)
class Coding:
    """The files that a score of a compressor is made of.

    Attributes:
        num_bytes: of the first file, less those of the second if there is one.
        files: the file with the text of the score, and under `conditional` that of the training split.
    """

    __pydantic_config__ = FILE_BLOCK

    num_bytes: int
    files: tuple[CodedFile, ...]

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError("files must hold at least one")

    @property
    def nats(self) -> float:
        """What the bytes are as a loss."""
        return 8 * self.num_bytes * math.log(2)

    @property
    def mb_per_s(self) -> float | None:
        """Megabytes of text per second of compression, of the first file; None if the clock did not move."""
        first = self.files[0]
        return first.text_bytes / first.compress_s / 1e6 if first.compress_s > 0 else None


# Intervals of fewer blocks cover too seldom: docs/statistics.md.
MIN_BLOCKS = 8


@dataclass(frozen=True, slots=True)
class Score:
    """One split scored under one protocol.

    Attributes:
        split: name of the split.
        protocol: as applied.
        tally: the sums.
        metrics: value by metric name; NaN if not finite.
        std_errors: standard error by metric name; NaN if unknown.
        block_targets: targets per block.
        block_nll_nats: loss summed over consecutive blocks in text order, the last possibly shorter. These are the
            raw samples behind `std_errors` and behind paired comparisons of two models.
        seconds: time it took.
        adaptation: how an adaptive protocol was tuned and what it gained; see `harness.evaluation.adaptive`.
        target_file: the loss of each target, if the suite asked to keep it.
        text: size of the complete split, with what was not scored; None if unknown.
        coding: the files of a compressor.
        audit: checks that the score is the length of a code, if the suite asked for them.
        pieces: how one stream was scored side by side; None if it was read in order.
    """

    __pydantic_config__ = FILE_BLOCK

    split: str
    protocol: EvaluationProtocol
    tally: Tally
    metrics: dict[str, NullableNumber]
    std_errors: dict[str, NullableNumber]
    block_targets: int = 0
    block_nll_nats: Sequence[NullableNumber] = ()
    seconds: NullableNumber = 0.0
    adaptation: dict[str, Any] | None = field(default=None, metadata=LATER)
    target_file: TargetFile | None = field(default=None, metadata=LATER)
    text: TextSize | None = field(default=None, metadata=LATER)
    coding: Coding | None = field(default=None, metadata=LATER)
    audit: ScoreAudit | None = field(default=None, metadata=LATER)
    pieces: Pieces | None = field(default=None, metadata=LATER)

    @property
    def can_be_audited(self) -> bool:
        """Whether every target of the split was scored, with a finite sum."""
        return self.protocol.name != "official" and math.isfinite(self.tally.nll_nats)

    def has_blocks(self) -> bool:
        """Whether the blocks are enough for an interval, and finite."""
        return len(self.block_nll_nats) >= MIN_BLOCKS and all(map(math.isfinite, self.block_nll_nats))

    def block_units(self, count: int) -> tuple[float, ...]:
        """What each block is divided by, if the whole score is divided by `count`: a share by its targets."""
        # The last block is shorter, and its share of the count follows.
        targets = [float(self.block_targets)] * len(self.block_nll_nats)
        targets[-1] = self.tally.num_targets - self.block_targets * (len(targets) - 1)
        return tuple(each * (count / self.tally.num_targets) for each in targets)
