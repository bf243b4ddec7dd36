"""Why a number differs from another harness's: the parts of a score, and its value under other conventions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.core.errors import DataError, StoreError
from harness.core.hashing import finite_or_none
from harness.core.messages import near, reason
from harness.core.scores import Coding, Score
from harness.core.units import WORD
from harness.report import conventions, texts
from harness.report.conventions import Value
from harness.results.record import RunRecord
from harness.results.store import RECORD, Store
from harness.system.reading import read_text


@dataclass(frozen=True, slots=True)
class Explanation:
    """One score taken apart. `parts` are the sums, the counts and how the text was read, by name."""

    split: str
    protocol: str
    parts: dict[str, int | float | str | None]
    values: list[Value]


def find_run(name: str, results: Path) -> RunRecord:
    """The record of a run id in a results folder, or of a run's folder. Raises StoreError if there is none."""
    folder = Path(name).absolute()
    if (folder / RECORD).is_file():
        found = Store(folder.parents[1]).find(folder.name)
        if found is not None:
            return found
    store = Store(results)
    # All of them: a name from outside must not become a path.
    records = {record.run_id: record for record, _ in store.records()}
    if name not in records:
        raise StoreError(f"{results}: has no run '{name}'.{near(name, records)}")
    return records[name]


def explain(record: RunRecord, *, split: str | None = None, original: Path | None = None) -> list[Explanation]:
    """Take apart the scores of a record.

    Args:
        record: of a run.
        split: the only one to show; None for all.
        original: the text of that split before any preparation, whose words and bytes lm-evaluation-harness divides by;
            None for the text as it was scored.

    Raises:
        DataError: the file cannot be read or is not the text that was scored, or a text goes with several splits.
        StoreError: the run has no such score.
    """
    scores = [score for score in record.scores if split in (None, score.split)]
    if not scores:
        raise StoreError(f"{record.run_id}: has no score of {split or 'any split'}: {record.error or record.status}")
    page = None
    if original is not None:
        if len({score.split for score in scores}) > 1:
            raise DataError(f"{record.run_id}: scored several splits; name that of the text by --split")
        try:
            page = read_text(original)
        except (OSError, ValueError) as error:
            raise DataError(f"{original}: cannot be read: {reason(error)}") from None
    return [_explained(record, score, page) for score in scores]


def to_json(record: RunRecord, explanations: Sequence[Explanation]) -> dict[str, object]:
    """As `harness explain --json` prints it."""
    return {"run_id": record.run_id, "scores": [asdict(each) for each in explanations]}


def to_text(explanations: Sequence[Explanation]) -> str:
    """A block of lines for each score."""
    return "\n\n".join(_block(each) for each in explanations)


def _block(each: Explanation) -> str:
    width = max(map(len, each.parts))
    lines = [f"{each.split}, protocol {each.protocol}"]
    for name, part in each.parts.items():
        shown = f"{part:,}" if isinstance(part, int) else f"{part:,.6f}" if isinstance(part, float) else part
        lines.append(f"  {name:{width}}  {'unknown' if shown is None else shown}")
    names = [f"{value.convention}: {value.metric}" for value in each.values]
    width = max(map(len, names))
    for name, value in zip(names, each.values, strict=True):
        if value.value is None:
            lines.append(f"  {name:{width}}  none: {value.reason}")
        else:
            note = f"; {value.note}" if value.note else ""
            lines.append(f"  {name:{width}}  {value.value:.6f} = {value.formula}{note}")
    return "\n".join(lines)


def _explained(record: RunRecord, score: Score, page: str | None) -> Explanation:
    missing: str | None = None
    try:
        score = texts.with_size(record, score)
    except ValueError as error:
        missing = str(error)
    ours = [*conventions.ours(score, missing)]
    if score.coding is not None:
        # Other harnesses score no compressor.
        return Explanation(score.split, score.protocol.name, _parts_of_files(record, score, score.coding), ours)
    return Explanation(
        score.split,
        score.protocol.name,
        _parts(record, score),
        [
            *ours,
            *conventions.lm_eval(record, score, page),
            *conventions.awd_lstm_lm(record, score),
            *conventions.transformer_xl(record, score),
        ],
    )


def _parts_of_files(record: RunRecord, score: Score, coding: Coding) -> dict[str, int | float | str | None]:
    """The sums and counts of a compressor's score, and the files that it is made of."""
    files = {
        f"file of {' + '.join(file.splits)}": f"{file.file_bytes:,} bytes from {file.text_bytes:,} in "
        f"{file.compress_s:.2f} s, read back in {file.decompress_s:.2f} s"
        for file in coding.files
    }
    counts = {name: part for name, part in _counts(score).items() if not name.endswith("not scored")}
    libraries = (f"{name} {version}" for name, version in record.model.get("libraries", {}).items())
    return {**files, "bytes of code": coding.num_bytes, **counts, "libraries": ", ".join(libraries)}


def _counts(score: Score) -> dict[str, int | float | str | None]:
    """The sums of a score, and how much of its text they are of."""
    tally, whole = score.tally, score.text
    parts: dict[str, int | float | str | None] = {
        "nats": finite_or_none(tally.nll_nats),
        "targets": tally.num_targets,
        "units divided by": tally.num_units,
        "tokens not predicted": tally.num_dropped,
    }
    for name in ("bytes", "chars", "words"):
        scored, every = getattr(tally, f"num_{name}"), getattr(whole, f"num_{name}", None)
        parts[f"{name} scored"] = scored
        parts[f"{name} not scored"] = None if scored is None or every is None else every - scored
    return parts


def _parts(record: RunRecord, score: Score) -> dict[str, int | float | str | None]:
    return {
        **_counts(score),
        "targets are": score.protocol.targets,
        "context": _context(record, score),
        "beginning of text": _beginning(record, score),
        "detokenised": conventions.detokeniser(record) or "no",
        "unknown words": _unknown_words(record, score.split),
        "adapted": "yes: the model learned from the text once it was scored" if score.adaptation is not None else "no",
    }


def _context(record: RunRecord, score: Score) -> str:
    context, stride = record.model.get("context"), record.model.get("stride")
    if context is not None:
        least = context - stride + 1 if stride is not None else 1
        return f"a sliding window: {least:,} to {context:,} tokens before a target, fewer at the beginning"
    streams, warmup = score.protocol.num_streams, score.protocol.warmup
    if streams == 1:
        return "all of the text before a target, by the carried state"
    return f"{streams:,} streams, each after {warmup:,} unscored tokens, then its own text, by the carried state"


def _beginning(record: RunRecord, score: Score) -> str:
    begin = conventions.read_block(record, score).get("begin")
    if begin is not None:
        return f"{begin} before the text, so that its first token is predicted too"
    return "no token before the text: its first one is read and not predicted"


def _unknown_words(record: RunRecord, split: str) -> str:
    if record.data.get("unit") != WORD:
        return "none: the units spell every word of the text, <unk> as written"
    outside = (record.data.get("not_in_train") or {}).get(split, {}).get("tokens")
    known = "as the text has them; the vocabulary is that of train, valid and test"
    return known if outside is None else f"{known}, {outside:,} tokens not in train"
