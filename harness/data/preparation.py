"""From a dataset block to a folder of token ids, made once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import DataError
from harness.core.hashing import content_hash
from harness.core.interfaces import SplitFile
from harness.data import folder
from harness.data.config import DatasetConfig, DatasetSpec, MarkovSource, OwnFiles, Registered, parse
from harness.data.download.locate import cache_folder, locked, writing
from harness.data.registry import Dataset, DatasetFacts, Encoding, file_digest, get_dataset
from harness.data.sources import markov, own_text

if TYPE_CHECKING:
    from harness.data.download.http import Progress
    from harness.data.download.obtain import SourceFinder
    from harness.data.manifest import FileEntry, Manifest


@dataclass(frozen=True, slots=True)
class Request:
    """A checked dataset block, the identity of its content, and the user's own files by role."""

    config: DatasetConfig
    identity: Mapping[str, object]
    own_files: Mapping[str, own_text.OwnFile] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.identity["name"])

    @property
    def prepared_folder(self) -> Path:
        """The folder of the prepared data, for example `enwik8-0f3a9c12d4e5f607`, whether or not it exists."""
        return folder_of(self.identity)


def folder_of(identity: Mapping[str, object]) -> Path:
    """The folder of the prepared data of this content, whether or not it exists."""
    # Content and format alone: the same text at another path or time is prepared once.
    key = content_hash({"format": folder.FORMAT, **identity})[:16]
    return cache_folder() / "prepared" / f"{identity['name']}-{key}"


def facts(spec: DatasetSpec) -> DatasetFacts:
    """Facts known without data. Raises DataError as `parse` does, and if an own file's name is reserved."""
    config = parse(spec)
    if isinstance(config, OwnFiles):
        return own_text.facts(config)
    if isinstance(config, MarkovSource):
        return markov.facts(config)
    return get_dataset(config.name).facts(config.name)


def make_request(spec: DatasetSpec, *, roots: Sequence[Path] = (), base: Path | None = None) -> Request:
    """Check a block, and find and hash the user's own files; arguments as in `prepare`.

    Raises:
        DataError: a file of the user's is missing, or the block is wrong.
    """
    config = parse(spec)
    if isinstance(config, OwnFiles):
        files = own_text.find_files(config, roots=roots, base=base)
        return Request(config, own_text.identity(config, files), files)
    if isinstance(config, MarkovSource):
        return Request(config, markov.identity(config))
    dataset = get_dataset(config.name)
    sources = {source.filename: ":".join(source.checksum) for source in dataset.sources}
    identity: dict[str, object] = {"name": dataset.name, "preparation": dataset.version, "sources": sources}
    return Request(config, identity if config.order is None else {**identity, "vocabulary": config.order})


def identify(spec: DatasetSpec, *, roots: Sequence[Path] = (), base: Path | None = None) -> dict[str, object]:
    """The identity of a dataset's content, for run ids: checksums of files, or the parameters of the synthetic source.

    Raises:
        DataError: as in `make_request`; arguments as in `prepare`.
    """
    return dict(make_request(spec, roots=roots, base=base).identity)


def prepare(
    spec: DatasetSpec,
    *,
    roots: Sequence[Path] = (),
    base: Path | None = None,
    progress: Progress | None = None,
    note: Callable[[str], object] = lambda text: None,
) -> Path:
    """Tokenise a dataset, unless that is done already and undamaged.

    Args:
        spec: a name, a block or a config.
        roots: read-only folders to search for source files.
        base: where relative paths of the user's own files start.
        progress: called during downloads.
        note: receives a line if a damaged folder was rebuilt, with the reason.

    Returns:
        The prepared folder, for `load`.

    Raises:
        DataError: the block is wrong, or data is missing, wrong or cannot be written.
    """
    request = make_request(spec, roots=roots, base=base)
    target = request.prepared_folder
    # Hashing takes a tenth of a second per 100 MB. Without it, a score on changed ids would state the old checksum.
    if not folder.find_damage(target):
        return target
    with locked(request.name):
        existed = target.exists()
        if damage := folder.find_damage(target):  # another process may have prepared it meanwhile
            build(request, roots, progress=progress)
            if existed:
                note(rebuilt(target, damage))
    return target


def rebuilt(target: Path, damage: Sequence[str]) -> str:
    """The line that every command prints when it has rebuilt a damaged folder."""
    return f"{target} was rebuilt: {damage[0]}"


def build(request: Request, roots: Sequence[Path], *, offline: bool = False, progress: Progress | None = None) -> None:
    """Tokenise into the prepared folder, as `prepare` does; `offline` forbids downloads. The caller holds the lock."""
    paths: dict[str, Path] = {}
    if isinstance(request.config, Registered):
        finder = _finder(get_dataset(request.config.name), roots)
        paths = finder.obtain(offline=offline, progress=progress)
    with writing(), folder.replacing(request.prepared_folder) as building:
        encoding, sources = _encode(request, paths, scratch=building), _source_entries(request, paths)
        known = facts(request.config)
        manifest = folder.write(building, encoding, known, identity=request.identity, sources=sources)
        _check(request, manifest, known)


def find_prepared(spec: DatasetSpec, *, roots: Sequence[Path] = (), base: Path | None = None) -> Path | None:
    """The folder of a prepared dataset, or None; reads no ids. Arguments and errors as in `identify`."""
    place = make_request(spec, roots=roots, base=base).prepared_folder
    return place if folder.usable_manifest(place) is not None else None


def prepare_again(
    spec: DatasetSpec, identity: Mapping[str, object], *, roots: Sequence[Path] = (), progress: Progress | None = None
) -> Path:
    """The prepared folder of the data that a record names; other arguments as in `prepare`.

    Args:
        spec: the record's block, whose own files are not known to this machine.
        identity: of the data's content.

    Raises:
        DataError: it is neither prepared, undamaged, nor can it be prepared from the block.
    """
    target = folder_of(identity)
    if not folder.find_damage(target):
        return target
    if isinstance(parse(spec), OwnFiles) or dict(make_request(spec).identity) != dict(identity):
        raise DataError(f"{identity['name']}: the data of this run is not in the cache; name it by a suite's file")
    return prepare(spec, roots=roots, progress=progress)


def find_split(spec: DatasetSpec, split: str, *, roots: Sequence[Path]) -> SplitFile | None:
    """Find one split of a word dataset whose other files are missing, to score a model that has its own vocabulary.

    Args:
        spec: a name, a block or a config.
        split: train, valid or test.
        roots: read-only folders to search.

    Returns:
        The checked file; None if the dataset is prepared or complete, lacks this split too, or has no words.

    Raises:
        DataError: the block is wrong, or a file with the name of a source has other content.
    """
    config = parse(spec)
    dataset = get_dataset(config.name) if isinstance(config, Registered) else None
    if dataset is None or dataset.words is None:
        return None
    request = make_request(config)
    if request.prepared_folder.exists():  # if it is damaged, `prepare` says so or rebuilds it
        return None
    with writing():
        paths, missing = _finder(dataset, roots).gather()
    path = paths.get(dataset.words[split])
    return SplitFile(dataset.name, split, path, request.identity) if missing and path is not None else None


def find_text(spec: DatasetSpec, split: str, *, roots: Sequence[Path] = (), base: Path | None = None) -> SplitFile:
    """Find or download the file that holds the text of a split as it is, for a model with a tokeniser of its own.

    Args:
        spec: a name, a block or a config.
        split: train, valid or test.
        roots: read-only folders to search.
        base: where relative paths of the user's own files start.

    Returns:
        The checked file. The dataset's other files may be missing.

    Raises:
        SpecError: the block is wrong.
        DataError: the split has no file of its own, or it is missing.
    """
    request = make_request(spec, roots=roots, base=base)
    path = request.own_files[split].path if split in request.own_files else None
    if isinstance(request.config, Registered) and split in (dataset := get_dataset(request.config.name)).texts:
        finder, name = _finder(dataset, roots), dataset.texts[split]
        with writing():
            path = finder.gather()[0].get(name)
        path = path or finder.obtain(offline=False)[name]
    if path is None:
        raise DataError(
            f"{request.name}: its {split} split is no file of its own, which a model with a tokeniser reads"
        )
    return SplitFile(request.name, split, path, request.identity)


def _finder(dataset: Dataset, roots: Sequence[Path]) -> SourceFinder:
    # Prepared data needs neither the network nor archives.
    from harness.data.download.obtain import SourceFinder

    return SourceFinder(dataset, roots)


def _encode(request: Request, paths: Mapping[str, Path], *, scratch: Path) -> Encoding:
    config = request.config
    if isinstance(config, OwnFiles):
        return own_text.encode(config, request.own_files, scratch=scratch)
    if isinstance(config, MarkovSource):
        return markov.encode(config)
    dataset = get_dataset(config.name)
    if dataset.encode is not None:
        return dataset.encode(paths)
    from harness.data.text import characters, words

    assert dataset.words is not None
    assert config.order is not None
    pieces = {split: characters.Piece(paths[filename]) for split, filename in dataset.words.items()}
    return words.encode(pieces, order=config.order, scratch=scratch)


def _source_entries(request: Request, paths: Mapping[str, Path]) -> list[FileEntry]:
    """Size and checksums of the files that were tokenised."""
    from harness.data.manifest import FileEntry

    if not isinstance(request.config, Registered):
        files = request.own_files.items()
        return [FileEntry(file=role, bytes=file.size, sha256=file.sha256) for role, file in files]
    entries = []
    for source in get_dataset(request.config.name).sources:
        # A source known by md5 or sha1 alone is hashed here, so that the manifest always states a sha256.
        known = {**source.checksums, "sha256": source.sha256 or file_digest(paths[source.filename])}
        entries.append(FileEntry(file=source.filename, bytes=source.size, **known))
    return entries


def _check(request: Request, manifest: Manifest, expected: DatasetFacts) -> None:
    """Last check before a prepared folder gets its name. Raises DataError."""
    if any(file.has_changed() for file in request.own_files.values()):
        # Ids were read after the hash was taken: the new ids must not get the folder of the old hash.
        raise DataError(f"{request.name}: a file changed while it was read; run again once nothing writes to it")
    # Right files with wrong counts mean an error in the tokeniser or in the entry.
    for split, expected_tokens in (expected.num_tokens or {}).items():
        if (num_tokens := manifest.num_tokens[split]) != expected_tokens:
            raise DataError(f"{request.name}: {num_tokens:,} tokens in {split}, expected {expected_tokens:,}")
    if expected.vocab_size not in (None, manifest.alphabet_size):
        raise DataError(f"{request.name}: {manifest.alphabet_size} different tokens, expected {expected.vocab_size}")
