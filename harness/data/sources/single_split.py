"""One split of a registered text of words, where the files of the others are not here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.interfaces import SplitFile
from harness.data.config import DatasetConfig, Registered
from harness.data.download.locate import cache_folder, writing
from harness.data.download.obtain import gather
from harness.data.preparation import prepared_folder, request
from harness.data.registry import dataset
from harness.data.spec import parse


def find_split(
    spec: str | Mapping[str, Any] | DatasetConfig, split: str, *, roots: Sequence[Path], cache: Path | None = None
) -> SplitFile | None:
    """The file of one split, if it is here while others are not: enough for a model that brings its own vocabulary.

    None where the dataset is prepared or whole, where the split is missing too, and for data that is not read as
    words: `prepare` then does what can be done. Raises DataError where a wrong file has the name of a source;
    SpecError as `parse` does.
    """
    config = parse(spec)
    row = dataset(config.canonical) if isinstance(config, Registered) else None
    if row is None or row.words is None:
        return None
    cache, wanted = cache or cache_folder(), request(config)
    if prepared_folder(wanted, cache).exists():
        return None
    with writing(cache):
        files, missing = gather(row, roots=roots, cache=cache)
    path = files.get(row.words[split])
    return SplitFile(row.name, split, path, wanted.identity) if missing and path is not None else None
