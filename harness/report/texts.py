"""The text behind a score: which rows are of the same text, and its size where a record does not hold it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.core.hashing import content_hash
from harness.core.metrics import metric_named
from harness.core.scores import TextSize
from harness.core.units import BYTE, WORD
from harness.data import DATASETS, KnownText, get_dataset
from harness.results.published import dataset_title

if TYPE_CHECKING:
    from harness.core.scores import Score
    from harness.report.row import Row
    from harness.results.record import RunRecord


@dataclass(frozen=True, slots=True)
class Text:
    """A normalised text.

    Attributes:
        name: key of the text.
        title: as tables show it.
        data: hash of its content.
        note: what a reader must know to compare values per byte.
    """

    name: str
    title: str
    data: str
    note: str


def text_of(record: RunRecord, title: str, split: str) -> Text:
    """The text that a run was scored on.

    Args:
        record: of the run.
        title: of its dataset, for a text that has no title of its own.
        split: which part of it.
    """
    identity = record.spec.dataset_identity
    name = data_name(record, title)
    known = known_text(record)
    if known is not None:
        return Text(known.name, known.title, _hash([known.name, identity.get("sources")]), known.note)
    sha256 = _file_sha256(record, split)
    if sha256 is not None:
        # A file for each split: its bytes are the same however a model cuts them.
        as_they_are = isinstance(sha256, str)
        note = "the bytes of the file as they are" if as_they_are else "the text of the file after its detokeniser"
        return Text(name, dataset_title(title), _hash(sha256), note)
    of_words = record.data.get("unit") == WORD
    note = "words joined by one space, a newline after each line" if of_words else "the bytes as they are"
    return Text(name, dataset_title(title), _hash(identity), note)


def data_hash(record: RunRecord, split: str) -> str:
    """Hash of the units that a run was scored on: of the dataset's, or of the tokens of a model that reads the file.

    Args:
        record: of the run.
        split: which part of the text.
    """
    identity = record.spec.dataset_identity
    if split not in (record.data.get("texts") or {}):
        return _hash(identity)
    # Tokens of another text, or of another tokeniser, are other units.
    num_tokens = (record.data.get("counts") or {}).get(split)
    return _hash([identity, record.data.get("event_space"), num_tokens])


def data_name(record: RunRecord, title: str) -> str:
    """Name of a run's data, or its title; the beginning of a text has a name of its own, as it is not the text."""
    identity = record.spec.dataset_identity
    name = str(identity.get("name", title))
    return f"{name}:{identity['first_bytes']}" if "first_bytes" in identity else name


def with_size(record: RunRecord, score: Score) -> Score:
    """The score with the size of its text, if its record does not hold it but the dataset's identity tells it exactly.

    Raises:
        ValueError: it does not; the message says why.
    """
    if score.tally.num_bytes is not None:
        return score
    tally, unit, known = score.tally, record.data.get("unit"), known_text(record)
    if unit == BYTE:
        whole = TextSize(tally.num_targets + tally.num_dropped, None, None)
        return replace(score, tally=tally.with_text(replace(whole, num_bytes=tally.num_targets)), text=whole)
    if known is None or score.split not in known.sizes:
        raise ValueError("the record is older than counts of bytes, and its data does not tell them")
    if tally.num_dropped != 1:
        raise ValueError(f"the record is older than counts of bytes, and {score.protocol.name} drops several tokens")
    whole, first = TextSize(*known.sizes[score.split]), known.first_words[score.split]
    dropped = first if unit == WORD else first[:1]
    assert whole.num_chars is not None
    assert whole.num_words is not None
    scored = TextSize(
        whole.num_bytes - len(dropped.encode()),
        whole.num_chars - len(dropped),
        whole.num_words - (not dropped.isspace()),
    )
    return replace(score, tally=tally.with_text(scored), text=whole)


def comparability(rows: Sequence[Row]) -> str | None:
    """One line about a group of rows: what makes the column comparable; None for a metric of the dataset's own units.

    Args:
        rows: of one group.
    """
    metric = metric_named(rows[0].metric)
    counts = sorted({row.text_count for row in rows if row.text_count is not None})
    if not metric.crosses_units or not counts:
        return None
    unit = metric.divides_by.removeprefix("num_")
    few = f"{counts[0]:,}" + (f" to {counts[-1]:,}" if len(counts) > 1 else "")
    return (
        f"Comparable: all rows are of one text ({rows[0].text_note}), less what each model reads first: {few} {unit}. "
        "Not comparable: values of the raw or detokenised text, or with other unknown words."
    )


def known_text(record: RunRecord) -> KnownText | None:
    dataset = record.spec.dataset
    name = dataset.get("name")
    # Own text may have any name, and a registered dataset of an earlier preparation had other tokens.
    # A pretrained model reads the file as it is.
    if "kind" in dataset or "texts" in record.data or name not in DATASETS:
        return None
    entry = get_dataset(str(name))
    sources = {source.filename: ":".join(source.checksum) for source in entry.sources}
    identity = record.spec.dataset_identity
    return entry.text if (identity.get("preparation"), identity.get("sources")) == (entry.version, sources) else None


def _file_sha256(record: RunRecord, split: str) -> str | list[str] | None:
    """Checksum of the bytes that were scored, if they are those of a file; with the detokeniser, if there was one."""
    identity = record.spec.dataset_identity
    read = (record.data.get("texts") or {}).get(split)
    if read is not None:
        detokenizer = record.spec.model.get("detokenizer", "none")
        return read["sha256"] if detokenizer == "none" else [read["sha256"], detokenizer]
    if identity.get("kind") in ("bytes", "chars") and not identity.get("fractions"):
        return (identity.get("sha256") or {}).get(split)
    return None


def _hash(value: object) -> str:
    # Ten digits of 16 tell apart all datasets that one table will ever hold.
    return content_hash(value)[:10]
