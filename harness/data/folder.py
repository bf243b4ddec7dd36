"""A prepared dataset on disk: token ids, vocabulary and manifest, published by one rename."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import DataError
from harness.core.hashing import with_digest
from harness.core.interfaces import Corpus
from harness.core.messages import reason
from harness.data.registry import SPLITS, DatasetFacts, Encoding, file_digest
from harness.system.files import open_new, remove_tree, write_atomic
from harness.system.paths import under
from harness.system.reading import open_regular, read_bytes

if TYPE_CHECKING:
    import numpy as np

    from harness.data.manifest import FileEntry, Manifest

# Version of the layout. It is part of every folder's name, so that another layout uses another folder.
FORMAT = 1
MANIFEST = "manifest.json"
VOCABULARY = "vocabulary.json"
# A model reads one token and predicts the next.
MIN_TOKENS = 2
# That of WikiText-103 has 4 MB.
MAX_VOCABULARY_BYTES = 256 << 20


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `target` unless the block raises. The caller holds the dataset's lock."""
    building, old = target.with_name(f".{target.name}-new"), target.with_name(f".{target.name}-old")
    for stale in (building, old):  # left by a killed process
        remove_tree(stale)
    building.mkdir(parents=True)
    try:
        yield building
        if target.exists():  # a folder cannot be renamed over one that has files
            target.replace(old)
        building.replace(target)
    finally:
        with suppress(OSError):
            remove_tree(building)
            remove_tree(old)


def write(
    folder: Path, encoding: Encoding, facts: DatasetFacts, *, identity: Mapping[str, object], sources: list[FileEntry]
) -> Manifest:
    """Write ids, vocabulary and manifest into an empty folder.

    Args:
        folder: an empty folder, see `replacing`.
        encoding: the tokenised text; its chunks are consumed.
        facts: name, unit and event space of the dataset.
        identity: what the folder's name is a hash of.
        sources: the files that were tokenised.

    Raises:
        DataError: a split has fewer than two tokens.
        OSError: the folder cannot be written.
    """
    import numpy as np

    from harness.data.manifest import Counts, Manifest

    vocabulary = list(encoding.vocabulary)
    dtype = str(np.min_scalar_type(max(0, len(vocabulary) - 1)))  # uint8, uint16 or uint32
    vocabulary_sha256 = _write_json(folder / VOCABULARY, vocabulary)
    ids, counts = {}, {}
    for split in SPLITS:
        num_tokens, ids[split] = _write_ids(folder / f"{split}.bin", encoding.splits[split], dtype)
        if num_tokens < MIN_TOKENS:
            holds = f"{facts.name}: the {split} split holds {num_tokens} token{'s' * (num_tokens != 1)}"
            raise DataError(f"{holds}; a split needs at least {MIN_TOKENS}, one to read and one to predict")
        # Every dataset counts a token as one unit so far. Records have both, as a metric divides by units.
        counts[split] = Counts(tokens=num_tokens, units=num_tokens)
    manifest = Manifest.model_validate(
        {
            "format": FORMAT, "name": facts.name, "unit": facts.unit, "event_space": facts.event_space,
            "identity": dict(identity), "sources": sources,
            "counts": counts, "alphabet_size": len(vocabulary), "dtype": dtype, "byte_order": "little",
            "ids": ids, "vocabulary_sha256": vocabulary_sha256, "limits": dict(encoding.limits),
            **encoding.notes,
        }
    )  # fmt: skip
    body = with_digest(manifest.as_json())
    _write_json(folder / MANIFEST, body)
    return Manifest.model_validate(body)


def read_manifest(folder: Path) -> Manifest:
    """Raises DataError if the manifest is missing, damaged or of another format."""
    from harness.data import manifest

    found = manifest.read(folder / MANIFEST)
    if found.format != FORMAT:
        raise DataError(f"{folder} was prepared in another format; run `harness data prepare` again")
    return found


def check_sizes(folder: Path) -> Manifest:
    """The manifest of a folder whose files have the right sizes. Reads no ids. Raises DataError."""
    manifest = read_manifest(folder)
    try:
        for split in SPLITS:
            entry = manifest.ids[split]
            size = under(folder, entry.file).stat().st_size
            if size != entry.bytes:
                raise DataError(f"{entry.file} has {size:,} bytes, expected {entry.bytes:,}")
        if len(_read_vocabulary(folder)) != manifest.alphabet_size:
            raise DataError(f"{VOCABULARY} does not have the manifest's {manifest.alphabet_size} tokens")
    except OSError as error:
        raise DataError(f"{error.filename}: {reason(error)}") from None
    except ValueError as error:
        raise DataError(f"{VOCABULARY}: {error}") from None
    return manifest


def usable_manifest(folder: Path) -> Manifest | None:
    """The manifest if `check_sizes` passes, else None."""
    try:
        return check_sizes(folder)
    except DataError:
        return None


def find_damage(folder: Path) -> list[str]:
    """Check sizes, then every file's sha256 against the manifest; return one line per damaged file."""
    try:
        manifest = check_sizes(folder)
    except DataError as error:
        return [str(error)]
    expected = {entry.file: entry.sha256 for entry in manifest.ids.values()}
    expected[VOCABULARY] = manifest.vocabulary_sha256
    return [
        f"{filename}: expected sha256 {sha256}, got {actual}"
        for filename, sha256 in expected.items()
        if (actual := file_digest(folder / filename)) != sha256
    ]


def load(folder: Path) -> Corpus:
    """Open a prepared dataset; ids are memory-mapped, read-only. Raises DataError for a damaged folder."""
    import numpy as np

    try:
        manifest = check_sizes(folder)
    except DataError as error:
        raise DataError(f"{folder} is damaged ({error}); run `harness data prepare` to rebuild it") from None
    dtype = _little_endian(manifest.dtype)
    splits = {}
    for split in SPLITS:
        with open_regular(folder / manifest.ids[split].file) as file:
            splits[split] = np.memmap(file, dtype=dtype, mode="r")
    return Corpus(
        name=manifest.name,
        unit=manifest.unit,
        splits=splits,
        vocabulary=_read_vocabulary(folder),
        num_units={split: manifest.counts[split].units for split in SPLITS},
        limits=manifest.limits,
        manifest=manifest.as_json(),
    )


def _write_ids(path: Path, chunks: Iterable[np.ndarray], dtype: str) -> tuple[int, FileEntry]:
    """Stream chunks to a file; returns the number of ids and the file's entry in the manifest."""
    import numpy as np

    from harness.data.manifest import FileEntry

    hasher = hashlib.sha256()  # while writing: a second pass would read gigabytes again
    num_tokens = num_bytes = 0
    with open_new(path) as file:
        for chunk in chunks:
            ids = np.ascontiguousarray(chunk, dtype=_little_endian(dtype)).data
            hasher.update(ids)
            num_bytes += file.write(ids)
            num_tokens += len(chunk)
    return num_tokens, FileEntry(file=path.name, bytes=num_bytes, sha256=hasher.hexdigest())


def _little_endian(dtype: str) -> np.dtype[np.generic]:
    import numpy as np

    # On every machine, so that a cache can be copied to another one.
    return np.dtype(dtype).newbyteorder("<")


def _write_json(path: Path, value: Mapping[str, object] | Sequence[str]) -> str:
    """Write JSON and return its sha256."""
    # ASCII: an editor or a locale with another encoding cannot change a token.
    text = json.dumps(value, indent=1, ensure_ascii=True).encode() + b"\n"
    write_atomic(path, text)
    return hashlib.sha256(text).hexdigest()


def _read_vocabulary(folder: Path) -> list[str]:
    from harness.core.json_values import read_json

    vocabulary = read_json(read_bytes(folder / VOCABULARY, MAX_VOCABULARY_BYTES))
    if not isinstance(vocabulary, list) or not all(isinstance(token, str) for token in vocabulary):
        raise DataError(f"{folder / VOCABULARY} is not a list of tokens")
    return vocabulary
