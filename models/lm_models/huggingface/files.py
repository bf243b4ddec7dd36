"""Find the files of a pretrained model, refuse what would run code, and name their content. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lm_models.huggingface.config import Config

NEEDS_EXTRA = "a model in Hugging Face's formats needs the extra hf: pip install 'lm-harness[hf]'"

PACKAGE = "package:"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")

# What a model is made of: no pickles and no code.
_READ = ("*.json", "*.safetensors", "*.model", "*.txt")
# Far above any index of weights.
_MOST_JSON_BYTES = 32 << 20
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


@dataclass(frozen=True, slots=True)
class Files:
    """A folder with safetensors and a tokeniser, or with one GGUF file, which has both inside."""

    folder: Path
    gguf: str | None = None

    @property
    def place(self) -> Path:
        """The folder or the GGUF file."""
        return self.folder if self.gguf is None else self.folder / self.gguf

    def paths(self) -> list[Path]:
        """Every file that is read."""
        if self.gguf is not None:
            return [self.place]
        return sorted({path for pattern in _READ for path in self.folder.glob(pattern) if path.is_file()})


def find(config: Config, *, places: Sequence[Path] = (Path(),), offline: bool = False) -> Files:
    """Find a model and check that reading it runs nothing. A model of the hub is downloaded unless it is here already.

    Args:
        config: the model.
        places: folders from which a relative path may start.
        offline: forbid the download.

    Returns:
        Its files.

    Raises:
        ValueError: it is missing, incomplete, or asks for code to be run; one line.
    """
    text = config.path
    if config.revision is not None:
        return _checked(text, Files(_download(text, config.revision, offline)))
    if text.startswith(PACKAGE):
        candidates = [_in_package(text)]
    else:
        given = Path(text).expanduser()
        candidates = [place / given for place in places]
    for path in candidates:
        if path.is_dir():
            return _checked(text, Files(path.resolve()))
        if path.is_file():
            return _checked(text, Files(path.resolve().parent, path.resolve().name))
    hub = "; as a model's id on the hub it needs a revision, a commit of 40 digits" if _HUB_ID.fullmatch(text) else ""
    raise ValueError(f"{text}: no such folder or GGUF file{hub}")


def describe(config: Config, files: Files) -> dict[str, Any]:
    """Which model it is: `path` and `revision` as given, checksums of its files, and one checksum of them all."""
    checksums = {}
    for path in files.paths():
        with path.open("rb") as file:
            checksums[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    every = hashlib.sha256("".join(f"{name}\0{value}\n" for name, value in checksums.items()).encode())
    return {"path": config.path, "revision": config.revision, "sha256": every.hexdigest(), "files": checksums}


def _in_package(text: str) -> Path:
    name, _, inner = text.removeprefix(PACKAGE).partition("/")
    # A top-level package is found without being imported; a dotted name would import its parents.
    found = find_spec(name) if name.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise ValueError(f"{text}: there is no installed package {name}")
    if Path(inner).is_absolute() or ".." in Path(inner).parts:
        raise ValueError(f"{text}: the file must be inside the package")
    return Path(found.submodule_search_locations[0], inner)


def _download(text: str, revision: str, offline: bool) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ValueError(NEEDS_EXTRA) from None
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it reports each of its attempts
    try:
        return Path(snapshot_download(text, revision=revision, allow_patterns=list(_READ), local_files_only=offline))
    except Exception as error:
        # Its errors are of many classes, and those of a missing network are long.
        reason = "the network is off" if offline else " ".join(str(error).split())[:200]
        raise ValueError(
            f"{text} at revision {revision[:10]} is not here, and cannot be downloaded: {reason}"
        ) from None


def _checked(text: str, files: Files) -> Files:
    if files.gguf is not None:
        with (files.folder / files.gguf).open("rb") as file:
            if file.read(4) != b"GGUF":
                raise ValueError(f"{text}: is no GGUF file, nor a folder of safetensors")
        return files
    names = {path.name for path in files.folder.iterdir()}
    if "config.json" not in names:
        raise ValueError(f"{text}: the folder has no config.json, so it holds no model")
    for name in ("config.json", "tokenizer_config.json"):
        if name in names and "auto_map" in _json(text, files.folder / name):
            raise ValueError(f"{text}: asks for code of its own (auto_map in {name}), which is never run")
    if "adapter_config.json" in names:
        raise ValueError(f"{text}: holds an adapter of another model; merge the two and save them as safetensors")
    if not any(name.endswith(".safetensors") for name in names):
        pickles = [name for name in sorted(names) if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
        found = f"its weights are a pickle ({pickles[0]}), which can run code" if pickles else "it has no weights"
        raise ValueError(f"{text}: {found}; save the model as safetensors")
    if not names.intersection(_TOKENIZERS):
        raise ValueError(f"{text}: has no tokeniser (tokenizer.json); save the model's own into the folder")
    return files


def _json(text: str, path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_JSON_BYTES + 1)
        if len(content) > _MOST_JSON_BYTES:
            raise ValueError(f"larger than {_MOST_JSON_BYTES:,} bytes")
        value = json.loads(content)
    except RecursionError:
        raise ValueError(f"{text}: {path.name} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{text}: {path.name} is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"{text}: {path.name} is not a block of keys")
    return value
