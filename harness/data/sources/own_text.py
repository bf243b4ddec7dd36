"""The user's own text, as bytes, as Unicode characters or as words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.errors import DataError
from harness.data.config import SAFE_NAME, Own, OwnWords
from harness.data.download.checksum import digests
from harness.data.download.locate import find_own, find_own_folder
from harness.data.registry import KINDS, SPLITS, Encoding, is_reserved
from harness.data.text import words

VERSION = 1
"""Changes whenever the same file would give other ids."""


EVENT_SPACE = {
    "bytes": "one token per byte; newlines kept; nothing added at a line's end",
    "chars": "one token per Unicode code point of the UTF-8 text; newlines kept; nothing added at a line's end",
    "words": words.EVENT_SPACE,
}


def unit_of(config: Own) -> str:
    """What a metric divides by."""
    return config.unit if isinstance(config, OwnWords) else {"bytes": "byte", "chars": "char"}[config.kind]


def name_of(config: Own) -> str:
    """The given name, else the folder's, else the stem of the file (of the training file where there are three).

    Raises DataError where the stem is reserved.
    """
    if config.name is not None:
        return config.name
    stem = Path(config.folder).name if config.folder is not None else Path(str(config.file or config.train)).stem
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:64] or "text"
    if is_reserved(name):
        registered = f", or name the registered dataset (`dataset: {name}`)" if name not in KINDS else ""
        raise DataError(
            f"a file of your own cannot stand under the name {name}; give it another (`name: my-{name}`){registered}"
        )
    assert SAFE_NAME.fullmatch(name)
    return name


def files_of(config: Own) -> dict[str, str]:
    """Role (train, valid and test, or file) -> the path as given."""
    if config.file is not None:
        return {"file": config.file}
    if config.folder is not None:
        return {split: str(Path(config.folder) / f"{split}.txt") for split in SPLITS}
    return {split: str(getattr(config, split)) for split in SPLITS}


def find_files(config: Own, *, roots: Sequence[Path], base: Path | None) -> dict[str, Path]:
    """The files by role. Raises DataError naming where a missing one was looked for."""
    if config.folder is not None:
        return find_own_folder(config.folder, [f"{split}.txt" for split in SPLITS], base=base, roots=roots)
    return {role: find_own(text, base=base, roots=roots) for role, text in files_of(config).items()}


def identity(config: Own, files: Mapping[str, Path]) -> dict[str, Any]:
    """Name, kind, fractions, order of a word list, and what each file holds; never where it lies."""
    order = {"vocabulary": config.vocabulary} if isinstance(config, OwnWords) else {}
    return {
        "name": name_of(config),
        **order,
        **({"unit": "char"} if unit_of(config) == "char" and isinstance(config, OwnWords) else {}),
        **({"line_ends": "returns"} if _is_cut_at_returns(config, files) else {}),
        "kind": config.kind,
        "preparation": VERSION,
        "fractions": list(config.fractions) if config.fractions is not None else None,
        "sha256": {role: digests(path)["sha256"] for role, path in files.items()},
    }


def _is_cut_at_returns(config: Own, files: Mapping[str, Path]) -> bool:
    """Whether fractions count lines that an earlier rule, of line feeds alone, did not: such runs have other names."""
    return isinstance(config, OwnWords) and config.fractions is not None and words.has_lone_returns(files["file"])


def encode(config: Own, files: Mapping[str, Path], scratch: Path) -> Encoding:
    """Token ids of the three splits; scratch: see `words.encode`.

    Raises DataError for text that is not UTF-8 where characters or words are asked for.
    """
    from harness.data.text import characters as text

    if isinstance(config, OwnWords):
        cut = words.cut_lines(files["file"], config.fractions) if config.fractions is not None else None
        pieces = cut or {split: text.Piece(files[split]) for split in SPLITS}
        return words.encode(pieces, order=config.vocabulary, scratch=scratch)
    if config.fractions is not None:
        path = files["file"]
        num_units = path.stat().st_size if config.kind == "bytes" else text.count_chars(path)
        pieces = text.cut_fractions(path, num_units, config.fractions)
    else:
        pieces = {split: text.Piece(files[split]) for split in SPLITS}
    if config.kind == "bytes":
        return text.encode_bytes(pieces, name=text.byte_number)
    return text.encode_chars(pieces)
