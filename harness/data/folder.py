"""A prepared dataset on disk: ids, vocabulary and manifest, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import DataError
from harness.core.interfaces import Corpus
from harness.data.download.checksum import digests
from harness.data.registry import SPLITS, Chunks, Encoding

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1
"""Layout of the folder; part of every folder's key, so that another layout is another folder."""

MANIFEST = "manifest.json"
VOCABULARY = "vocabulary.json"
MIN_TOKENS = 2

_DTYPES = {"uint8": "<u1", "uint16": "<u2", "uint32": "<u4"}


def write(
    target: Path,
    encoding: Encoding,
    about: Mapping[str, Any],
    *,
    confirm: Callable[[Mapping[str, Any]], None] = lambda manifest: None,
) -> None:
    """Write `target` under another name and rename it into place; whatever was there before is removed.

    The caller holds the dataset's lock. about: name, unit, event_space, identity and sources of the manifest.
    confirm gets the manifest once all is written; where it raises, `target` stays as it was.
    Raises DataError for a split of fewer than two tokens; OSError where the folder cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}-"
    for stale in target.parent.glob(f"{prefix}*"):
        shutil.rmtree(stale, ignore_errors=True)
    building = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        manifest = _write_files(building, encoding, about)
        confirm(manifest)
        _write_json(building / MANIFEST, manifest)
        building.chmod(0o755)
        if target.exists():
            target.rename(building.with_name(f"{building.name}-old"))
        building.rename(target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
        shutil.rmtree(building.with_name(f"{building.name}-old"), ignore_errors=True)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Raises DataError where it is missing or no manifest of this format."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(f"{folder} is not a prepared dataset: its {MANIFEST} cannot be read") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"{folder} was prepared in another format; run `harness data prepare` again")
    return manifest


def flaw(folder: Path) -> str | None:
    """What a look at names and sizes finds wrong; None for a folder that can be used. Cheap: reads no ids."""
    try:
        manifest = read_manifest(folder)
        for split in SPLITS:
            size = (folder / manifest["ids"][split]["file"]).stat().st_size
            if size != manifest["ids"][split]["bytes"]:
                return f"{split}.bin has {size:,} bytes, expected {manifest['ids'][split]['bytes']:,}"
        if len(_read_vocabulary(folder)) != manifest["alphabet_size"]:
            return f"{VOCABULARY} does not have the manifest's {manifest['alphabet_size']} tokens"
    except DataError as error:
        return str(error)
    except (OSError, KeyError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def damage(folder: Path) -> list[str]:
    """As `flaw`, and every file's sha256 against the manifest: one line per damaged file."""
    first = flaw(folder)
    if first is not None:
        return [first]
    manifest = read_manifest(folder)
    expected = {entry["file"]: entry["sha256"] for entry in manifest["ids"].values()}
    expected[VOCABULARY] = manifest["vocabulary_sha256"]
    lines = []
    for filename, sha256 in expected.items():
        got = digests(folder / filename)["sha256"]
        if got != sha256:
            lines.append(f"{filename}: expected sha256 {sha256}, got {got}")
    return lines


def load(folder: Path) -> Corpus:
    """Open a prepared dataset; ids are memory-mapped, read-only. Raises DataError for a damaged folder."""
    import numpy as np

    problem = flaw(folder)
    if problem is not None:
        raise DataError(f"{folder} is damaged ({problem}); run `harness data prepare` to rebuild it")
    manifest = read_manifest(folder)
    dtype = _DTYPES[manifest["dtype"]]
    return Corpus(
        name=manifest["name"],
        unit=manifest["unit"],
        splits={split: np.memmap(folder / manifest["ids"][split]["file"], dtype=dtype, mode="r") for split in SPLITS},
        vocabulary=_read_vocabulary(folder),
        num_units={split: manifest["counts"][split]["units"] for split in SPLITS},
        limits=manifest["limits"],
        manifest=manifest,
    )


def _write_files(folder: Path, encoding: Encoding, about: Mapping[str, Any]) -> dict[str, Any]:
    vocabulary = list(encoding.vocabulary)
    dtype = _smallest_dtype(len(vocabulary))
    vocabulary_sha256 = _write_json(folder / VOCABULARY, vocabulary)
    ids: dict[str, dict[str, Any]] = {}
    counts: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        num_tokens, sha256 = _write_ids(folder / f"{split}.bin", encoding.splits[split], dtype)
        if num_tokens < MIN_TOKENS:
            raise DataError(
                f"{about['name']}: the {split} split holds {num_tokens} token{'s' * (num_tokens != 1)}; "
                f"a split needs at least {MIN_TOKENS}, one to read and one to predict"
            )
        num_units = (encoding.num_units or {}).get(split, num_tokens)
        counts[split] = {"tokens": num_tokens, "units": num_units}
        ids[split] = {"file": f"{split}.bin", "bytes": (folder / f"{split}.bin").stat().st_size, "sha256": sha256}
    return {
        "format": FORMAT,
        **about,
        "counts": counts,
        "alphabet_size": len(vocabulary),
        "dtype": dtype,
        "byte_order": "little",
        "ids": ids,
        "vocabulary_sha256": vocabulary_sha256,
        "limits": dict(encoding.limits),
        **encoding.notes,
    }


def _write_ids(path: Path, chunks: Chunks, dtype: str) -> tuple[int, str]:
    """Stream chunks to a file; returns the number of ids and the file's sha256."""
    hasher = hashlib.sha256()
    num_tokens = 0
    with path.open("wb") as file:
        for chunk in chunks:
            data = _little_endian(chunk, dtype).data
            hasher.update(data)
            file.write(data)
            num_tokens += len(chunk)
    return num_tokens, hasher.hexdigest()


def _little_endian(chunk: np.ndarray, dtype: str) -> np.ndarray:
    import numpy as np

    return np.ascontiguousarray(chunk, dtype=_DTYPES[dtype])


def _smallest_dtype(vocab_size: int) -> str:
    if vocab_size <= 1 << 8:
        return "uint8"
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


def _write_json(path: Path, value: Mapping[str, Any] | Sequence[str]) -> str:
    text = json.dumps(value, indent=1, ensure_ascii=True).encode() + b"\n"
    path.write_bytes(text)
    return hashlib.sha256(text).hexdigest()


def _read_vocabulary(folder: Path) -> list[str]:
    vocabulary = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
    if not isinstance(vocabulary, list) or not all(isinstance(token, str) for token in vocabulary):
        raise DataError(f"{folder / VOCABULARY} is not a list of tokens")
    return vocabulary
