"""The user's own text, as bytes, as Unicode characters or as words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import DataError
from harness.data.config import KINDS, OwnText, OwnWords, is_reserved
from harness.data.download.locate import find_own, is_file
from harness.data.registry import SPLITS, DatasetFacts, Encoding, file_digest
from harness.data.text import WORDS_EVENT_SPACE

VERSION = 1  # raise it if the same file would give other ids

_EVENT_SPACES = {
    "bytes": "one token per byte; newlines kept; nothing added at a line's end",
    "chars": "one token per Unicode code point of the UTF-8 text; newlines kept; nothing added at a line's end",
    "words": WORDS_EVENT_SPACE,
}


@dataclass(frozen=True, slots=True)
class OwnFile:
    """A file of the user's, with its size, time of change and sha256 when it was hashed."""

    path: Path
    size: int
    modified_ns: int
    sha256: str

    def has_changed(self) -> bool:
        # A second hash would double the time that a large text takes.
        status = self.path.stat()
        return (status.st_size, status.st_mtime_ns) != (self.size, self.modified_ns)


def facts(config: OwnText | OwnWords) -> DatasetFacts:
    """Name, unit and event space; counts are unknown. Raises DataError if the file's name is reserved."""
    name = _name(config)
    unit = config.unit if isinstance(config, OwnWords) else config.kind.removesuffix("s")
    return DatasetFacts(name, name, unit, _EVENT_SPACES[config.kind])


def find_files(config: OwnText | OwnWords, *, roots: Sequence[Path], base: Path | None) -> dict[str, OwnFile]:
    """Find and hash the files by role: train, valid and test, or file. Raises DataError if one cannot be read."""
    if config.folder is not None:
        folder = find_own(config.folder, base=base, roots=roots, is_folder=True)
        paths = {split: folder / f"{split}.txt" for split in SPLITS}
        if missing := " and no ".join(path.name for path in paths.values() if not is_file(path)):
            raise DataError(f"{folder} has no {missing}: a folder of text holds train.txt, valid.txt and test.txt")
    elif config.file is not None:
        paths = {"file": find_own(config.file, base=base, roots=roots)}
    else:
        paths = {split: find_own(str(getattr(config, split)), base=base, roots=roots) for split in SPLITS}
    return {role: _hash(path) for role, path in paths.items()}


def identity(config: OwnText | OwnWords, files: Mapping[str, OwnFile]) -> dict[str, object]:
    """Name, kind, fractions, order of a word list, and the content of each file; never a path."""
    # A later key is present only where it differs from the earlier rule: names of earlier runs and folders stay valid.
    later: dict[str, object] = {}
    if isinstance(config, OwnWords):
        from harness.data.text import words

        later["vocabulary"] = config.vocabulary
        if config.unit == "char":
            later["unit"] = "char"
        # Fractions once counted only the lines that end in a line feed.
        if config.fractions is not None and words.has_lone_returns(files["file"].path):
            later["line_ends"] = "returns"
    return {
        "name": _name(config),
        **later,
        "kind": config.kind,
        "preparation": VERSION,
        "fractions": list(config.fractions) if config.fractions is not None else None,
        "sha256": {role: file.sha256 for role, file in files.items()},
    }


def encode(config: OwnText | OwnWords, files: Mapping[str, OwnFile], *, scratch: Path) -> Encoding:
    """Tokenise the three splits.

    Args:
        config: the dataset block.
        files: the files by role, from `find_files`.
        scratch: folder for temporary files of words.

    Raises:
        DataError: characters or words are asked for, and a file is not UTF-8.
    """
    from harness.data.text import characters, words

    if config.fractions is None:
        pieces = {split: characters.Piece(files[split].path) for split in SPLITS}
    elif config.kind == "words":
        pieces = words.cut_lines(files["file"].path, config.fractions)
    else:
        file = files["file"]
        num_units = file.size if config.kind == "bytes" else characters.count_chars(file.path)
        pieces = characters.cut_fractions(file.path, num_units, config.fractions)
    if isinstance(config, OwnWords):
        return words.encode(pieces, order=config.vocabulary, scratch=scratch)
    if config.kind == "bytes":
        return characters.encode_bytes(pieces, token_text=str)
    return characters.encode_chars(pieces)


def _name(config: OwnText | OwnWords) -> str:
    """The given name, else the folder's, else the stem of the (training) file."""
    if config.name is not None:
        return config.name
    stem = Path(config.folder).name if config.folder is not None else Path(str(config.file or config.train)).stem
    # What SAFE_NAME allows: the name becomes part of run names and folder names.
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:64] or "text"
    if is_reserved(name):
        hint = f", or name the registered dataset (`dataset: {name}`)" if name not in KINDS else ""
        raise DataError(f"a file of your own cannot have the name {name}; choose another (`name: my-{name}`){hint}")
    return name


def _hash(path: Path) -> OwnFile:
    # Before hashing: a change while the file is read must show later.
    status = path.stat()
    return OwnFile(path, status.st_size, status.st_mtime_ns, file_digest(path))
