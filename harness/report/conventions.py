"""The value of a score under the conventions of other code, from the same nats.

Every value has the formula with its numbers. A convention that needs what the record does not hold has a reason in the
place of its value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from harness.core.errors import DataError
from harness.core.hashing import finite_or_none
from harness.core.metrics import METRICS
from harness.core.scores import Score, TextSize
from harness.core.units import BYTE, CHAR, UNITS
from harness.report import texts
from harness.results.record import RunRecord

LM_EVAL = "lm-evaluation-harness"
AWD_LSTM = "awd-lstm-lm"
TRANSFORMER_XL = "Transformer-XL"

# awd-lstm-lm, main.py.
_OFFICIAL_BATCH = {"valid": 10, "test": 1}
_OTHER_TOKENS = "its data are words, characters or bytes, and these tokens are of another tokeniser"


@dataclass(frozen=True, slots=True)
class Value:
    """A value under a convention.

    Attributes:
        convention: whose it is; `harness` for our own metrics.
        metric: its name there.
        value: None if it cannot be made from the record, or is not finite.
        formula: with its numbers.
        note: what to mind.
        reason: why there is no value.
    """

    convention: str
    metric: str
    value: float | None = None
    formula: str | None = None
    note: str | None = None
    reason: str | None = None


def detokeniser(record: RunRecord) -> str | None:
    """The detokeniser of a pretrained model's text; None for none."""
    name = record.spec.model.get("detokenizer")
    return None if name in (None, "none") else str(name)


def read_block(record: RunRecord, score: Score) -> dict[str, Any]:
    """What a record of a pretrained model says of the text as it was read."""
    block: dict[str, Any] = (record.data.get("texts") or {}).get(score.split) or {}
    return block


@dataclass(frozen=True, slots=True)
class _Rate:
    """Nats per `count` things called `what`; without a count, `reason` says why."""

    nats: float
    count: int | None
    what: str
    reason: str = "the nats are not finite"

    def perplexity(self, convention: str, metric: str, note: str | None = None) -> Value:
        return self._value(convention, metric, "exp({})", _exp, note)

    def bits(self, convention: str, metric: str, note: str | None = None) -> Value:
        return self._value(convention, metric, "{} / ln 2", lambda rate: rate / math.log(2), note)

    def _value(
        self, convention: str, metric: str, formula: str, of_rate: Callable[[float], float], note: str | None
    ) -> Value:
        value = finite_or_none(of_rate(self.nats / self.count)) if self.count else None
        if value is None:
            return Value(convention, metric, reason=self.reason)
        quotient = f"{self.nats:,.2f} nats / {self.count:,} {self.what}"
        return Value(convention, metric, value, formula.format(quotient), note)


def _exp(rate: float) -> float:
    try:
        return math.exp(rate)
    except OverflowError:
        return math.inf


def ours(score: Score, missing: str | None) -> Iterator[Value]:
    """The metrics of the record, and those that need no unit of the dataset.

    Args:
        score: one split under one protocol.
        missing: why the record does not hold the size of the text.
    """
    names = dict.fromkeys([*score.metrics, *(name for name, each in METRICS.items() if each.divides_by != "num_units")])
    for metric in (METRICS[name] for name in names if name in METRICS):
        what = metric.divides_by.removeprefix("num_")
        reason = missing or f"its number of {what} is unknown"
        rate = _Rate(score.tally.nll_nats, metric.count(score.tally), what, reason)
        yield (rate.perplexity if metric.unit.startswith("1/") else rate.bits)("harness", metric.name)


def lm_eval(record: RunRecord, score: Score, page: str | None) -> Iterator[Value]:
    """Its task wikitext: words and bytes of the original page, all of them.

    Args:
        record: of the run.
        score: one of its scores.
        page: the original text; None for the text that was scored, as one page.

    Raises:
        DataError: the page is not the text that was scored.
    """
    num_bytes, num_pieces = _page(record, score, page)
    notes = []
    if score.tally.num_dropped:
        notes.append("it predicts the first token too, after a prefix token, which adds that token's nats")
    if record.model.get("context") is not None:
        notes.append("its windows begin after 1 token of context, the last one has all that fits")
    if detokeniser(record):
        notes.append("words and bytes are of the text before it was detokenised")
    note = "; ".join(notes) or None
    unsized = "the record does not hold the size of the text"
    unsplit = "re.split counts an empty word at an end of the page that is white space, which the record does not say"
    nats = score.tally.nll_nats
    why = unsized if num_bytes is None else f"{unsplit}; give --text FILE"
    name = "the text as scored" if page is None and not read_block(record, score) else "the original text"
    words = _Rate(nats, num_pieces, rf're.split(r"\s+") pieces of {name}', why)
    yield words.perplexity(LM_EVAL, "word_perplexity", note)
    per_byte = _Rate(nats, num_bytes, f"bytes of {name}", unsized)
    yield per_byte.perplexity(LM_EVAL, "byte_perplexity", note)
    yield per_byte.bits(LM_EVAL, "bits_per_byte", note)


def _page(record: RunRecord, score: Score, page: str | None) -> tuple[int | None, int | None]:
    """Bytes of the original text as one page, and its pieces between white space, empty ones included."""
    read = read_block(record, score).get("read")
    whole = score.text if read is None else TextSize(**read)
    if page is not None:
        num_bytes = len(page.encode())
        if read is not None and whole is not None and num_bytes != whole.num_bytes:
            raise DataError(f"--text has {num_bytes:,} bytes, but {whole.num_bytes:,} were scored as {score.split}")
        return num_bytes, len(re.split(r"\s+", page))
    if whole is None:
        return None, None
    known = texts.known_text(record)
    first = None if known is None else known.first_words.get(score.split)
    if whole.num_words is None or first is None:
        return whole.num_bytes, None
    # The normalised text ends with a newline, and begins with one if its first line is blank.
    return whole.num_bytes, whole.num_words + 1 + first.isspace()


def awd_lstm_lm(record: RunRecord, score: Score) -> Iterator[Value]:
    """The quotient of the official code: the loss divided by all tokens of the trimmed split, predicted or not."""
    tally, batch = score.tally, _OFFICIAL_BATCH.get(score.split, 10)
    count, note = tally.num_units, None
    reason = f"its {batch} streams leave {batch} first tokens out, whose nats the sum includes; score under `official`"
    if record.data.get("unit") not in UNITS:
        count, reason = 0, _OTHER_TOKENS
    elif score.protocol.name != "official":
        # One stream leaves out the first token alone, as `exact` does.
        count = tally.num_targets + tally.num_dropped if batch == 1 else 0
        note = f"it divides by {count - tally.num_targets} more than it predicts"
    yield _per_token(record, _Rate(tally.nll_nats, count, "tokens of the trimmed split", reason), AWD_LSTM, note)


def transformer_xl(record: RunRecord, score: Score) -> Iterator[Value]:
    """The summed loss over predicted tokens; each line of words ends in a token, and newlines are bytes like others."""
    count = score.tally.num_targets if record.data.get("unit") in UNITS else 0
    yield _per_token(
        record, _Rate(score.tally.nll_nats, count, "predicted tokens", _OTHER_TOKENS), TRANSFORMER_XL, None
    )


def _per_token(record: RunRecord, rate: _Rate, convention: str, note: str | None) -> Value:
    """As a perplexity of words, else in bits."""
    if record.data.get("unit") in (BYTE, CHAR):
        return rate.bits(convention, "bpc", note)
    return rate.perplexity(convention, "perplexity", note)
