"""What is known of a dataset before any of it is here, and what identifies its content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.config import DatasetConfig, MarkovSource, OwnFiles, Registered
from harness.data.registry import SPLITS, dataset
from harness.data.sources import markov, own_text
from harness.data.spec import parse


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """Known without data. vocab_size and num_tokens (per split) are None where only the data can say.

    title is the paper's name of the task's data; sources are file names.
    """

    name: str
    title: str
    unit: str
    event_space: str
    vocab_size: int | None
    num_tokens: Mapping[str, int] | None
    sources: tuple[str, ...]


def facts(spec: str | Mapping[str, Any] | DatasetConfig) -> DatasetFacts:
    """Raises SpecError for a block that `parse` refuses."""
    config = parse(spec)
    if isinstance(config, OwnFiles):
        name = own_text.name_of(config)
        files = tuple(Path(path).name for path in own_text.files_of(config).values())
        return DatasetFacts(name, name, own_text.unit_of(config), own_text.EVENT_SPACE[config.kind], None, None, files)
    if isinstance(config, MarkovSource):
        num_tokens = {split: getattr(config, split) for split in SPLITS}
        title, words = markov.title(config), markov.event_space(config)
        return DatasetFacts("markov", title, markov.UNIT, words, config.symbols, num_tokens, ())
    row = dataset(config.canonical)
    return DatasetFacts(
        name=row.name,
        title=row.alias_titles.get(config.name, row.title),
        unit=row.unit,
        event_space=row.event_space,
        vocab_size=row.vocab_size,
        num_tokens=row.num_tokens,
        sources=tuple(source.filename for source in row.sources),
    )


def identify(
    spec: str | Mapping[str, Any] | DatasetConfig, *, roots: Sequence[Path] = (), base: Path | None = None
) -> dict[str, Any]:
    """What the content is, for run ids: a registry's checksums, own files' hashes, or all of a source's parameters.

    Raises DataError where a file of the user's is missing; SpecError as `parse` does.
    """
    config = parse(spec)
    if isinstance(config, OwnFiles):
        return own_text.identity(config, own_text.find_files(config, roots=roots, base=base))
    if isinstance(config, MarkovSource):
        return markov.identity(config)
    return registered_identity(config)


def registered_identity(config: Registered) -> dict[str, Any]:
    """Name, version and checksums; the order of a word list only where there is one."""
    row = dataset(config.canonical)
    sources = {source.filename: ":".join(source.checksum) for source in row.sources}
    known: dict[str, Any] = {"name": row.name, "preparation": row.version, "sources": sources}
    return known if config.order is None else {**known, "vocabulary": config.order}
