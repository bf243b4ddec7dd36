"""From a dataset block to a folder of token ids, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core.errors import DataError
from harness.core.hashing import content_hash
from harness.data import folder
from harness.data.config import DatasetConfig, MarkovSource, OwnFiles
from harness.data.description import facts, registered_identity
from harness.data.download.checksum import digests
from harness.data.download.http import Progress
from harness.data.download.locate import cache_folder, locked, writing
from harness.data.download.obtain import obtain
from harness.data.registry import Encoding, SourceFile, dataset
from harness.data.sources import markov, own_text
from harness.data.spec import parse
from harness.data.text import words


@dataclass(frozen=True, slots=True)
class Request:
    """A dataset block, what identifies its content, and the user's own files with their size and time when hashed."""

    config: DatasetConfig
    identity: Mapping[str, Any]
    own_files: Mapping[str, Path] = field(default_factory=dict)
    stamps: Mapping[Path, tuple[int, int]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.identity["name"])

    @property
    def folder_name(self) -> str:
        """`enwik8-0f3a9c12d4e5f607`: the key is content and format, never a path or a time."""
        return f"{self.name}-{content_hash({'format': folder.FORMAT, **self.identity})[:16]}"


def request(
    spec: str | Mapping[str, Any] | DatasetConfig, *, roots: Sequence[Path] = (), base: Path | None = None
) -> Request:
    """Raises DataError where a file of the user's is missing; SpecError as `parse` does."""
    config = parse(spec)
    if isinstance(config, OwnFiles):
        files = own_text.find_files(config, roots=roots, base=base)
        stamps = {path: _stamp(path) for path in files.values()}
        return Request(config, own_text.identity(config, files), files, stamps)
    if isinstance(config, MarkovSource):
        return Request(config, markov.identity(config))
    return Request(config, registered_identity(config))


def prepared_folder(wanted: Request, cache: Path) -> Path:
    """Where it lies once prepared, whether or not it is."""
    return cache / "prepared" / wanted.folder_name


def prepare(
    spec: str | Mapping[str, Any] | DatasetConfig,
    *,
    roots: Sequence[Path] = (),
    base: Path | None = None,
    cache: Path | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Return the folder of the prepared dataset, made now if it is not there or is damaged.

    roots: read-only folders to search. base: where relative paths of the user's own files start. progress is
    called during downloads. Raises DataError where data is missing or wrong; SpecError as `parse` does.
    """
    cache = cache or cache_folder()
    wanted = request(spec, roots=roots, base=base)
    target = prepared_folder(wanted, cache)
    # Hashing costs a tenth of a second per 100 MB; a number scored on changed ids would carry the old checksum.
    if not folder.damage(target):
        return target
    with locked(cache, wanted.name):
        if folder.damage(target):
            build(wanted, target, roots=roots, cache=cache, offline=offline, progress=progress)
    return target


def build(
    wanted: Request,
    target: Path,
    *,
    roots: Sequence[Path],
    cache: Path,
    offline: bool,
    progress: Progress | None = None,
) -> None:
    """Tokenise into `target`; the caller holds the lock. Raises as `prepare` does."""
    known = facts(wanted.config)
    about: dict[str, Any] = {
        "name": wanted.name,
        "unit": known.unit,
        "event_space": known.event_space,
        "identity": dict(wanted.identity),
    }
    files: dict[str, Path] = {}
    if isinstance(wanted.config, OwnFiles):
        about["sources"] = _own_sources(wanted)
    elif isinstance(wanted.config, MarkovSource):
        about["sources"] = []
    else:
        row = dataset(wanted.config.canonical)
        files = obtain(row, roots=roots, cache=cache, offline=offline, progress=progress)
        about["sources"] = [_source_entry(source, files[source.filename]) for source in row.sources]
    with writing(cache):
        target.parent.mkdir(parents=True, exist_ok=True)
        encoding = _encode(wanted, files, scratch=target.parent)
        folder.write(target, encoding, about, confirm=lambda manifest: _confirm(wanted, manifest))


def _encode(wanted: Request, files: Mapping[str, Path], scratch: Path) -> Encoding:
    """files: a registered dataset's, by name."""
    config = wanted.config
    if isinstance(config, OwnFiles):
        return own_text.encode(config, wanted.own_files, scratch)
    if isinstance(config, MarkovSource):
        return markov.encode(config)
    row, order = dataset(config.canonical), config.order
    if row.words is not None and order is not None:
        texts = {split: files[name] for split, name in row.words.items()}
        return words.encode(texts, order=order, scratch=scratch)
    if row.encode is None:
        raise AssertionError(f"{row.name} has neither words nor encode")
    return row.encode(files)


def _confirm(wanted: Request, manifest: Mapping[str, Any]) -> None:
    """Last look before a prepared folder gets its name. Raises DataError."""
    if any(_stamp(path) != stamp for path, stamp in wanted.stamps.items()):
        # Ids were read after the hash was taken: a file edited in between must not stand under the old hash.
        raise DataError(f"{wanted.name}: a file changed while it was read; run again once it is at rest")
    known = facts(wanted.config)
    for split, entry in manifest["counts"].items():
        if known.num_tokens is not None and entry["tokens"] != known.num_tokens[split]:
            raise DataError(
                f"{wanted.name}: {entry['tokens']:,} tokens in {split}, expected {known.num_tokens[split]:,}"
            )
    if known.vocab_size not in (None, manifest["alphabet_size"]):
        raise DataError(f"{wanted.name}: {manifest['alphabet_size']} different tokens, expected {known.vocab_size}")


def _own_sources(wanted: Request) -> list[dict[str, Any]]:
    return [
        {"file": role, "bytes": path.stat().st_size, "sha256": wanted.identity["sha256"][role]}
        for role, path in wanted.own_files.items()
    ]


def _source_entry(source: SourceFile, path: Path) -> dict[str, Any]:
    """What the manifest says of a file that `obtain` has just checked."""
    entry: dict[str, Any] = {"file": source.filename, "bytes": source.size}
    entry["sha256"] = source.sha256 or digests(path)["sha256"]
    if source.md5 is not None:
        entry["md5"] = source.md5
    if source.sha1 is not None:
        entry["sha1"] = source.sha1
    return entry


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
