"""A pretrained model with a tokeniser of its own, and texts as it reads them: from the file's own bytes."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.core.errors import CheckpointError, DataError
from harness.core.interfaces import LoadedModel
from harness.core.messages import reason
from harness.core.scores import TextSize
from harness.core.units import TOKEN
from harness.evaluation import detokenizer
from harness.system.reading import open_regular
from lm_models.huggingface import files as model_files
from lm_models.huggingface import model as loading
from lm_models.huggingface.config import Config
from lm_models.huggingface.tokenizer import Tokenizer

if TYPE_CHECKING:
    from lm_models.plugin.adapter import Adapter

# Memory that tokenising takes for each byte of a text; measured on Penn Treebank: 100 to 170.
_MEMORY_PER_BYTE = 200

_DETOKENIZERS: Mapping[str, Callable[[str], str]] = {"none": lambda text: text, "wikitext": detokenizer.wikitext}


@dataclass(frozen=True, slots=True, eq=False)
class ReadText:
    """A text as a pretrained model reads it. It measures its own tokens: a `TextSizes`.

    Attributes:
        ids: tokens (N,), the one of the beginning first, if there is one.
        begin: text of that token; None if the first token of the text only conditions.
        text: UTF-8 bytes that are scored.
        ends: end of each token in `text`, in bytes, (N,).
        sha256: of the bytes that were read from the file.
        size_read: of these bytes, before the detokeniser.
    """

    ids: np.ndarray
    begin: str | None
    text: bytes
    ends: np.ndarray
    sha256: str
    size_read: TextSize

    @property
    def num_added(self) -> int:
        """Tokens before the text that are no part of it."""
        return 0 if self.begin is None else 1

    def size(self, ids: np.ndarray, first: int = 0, stop: int | None = None) -> TextSize:
        """Size of the text of the tokens [first, stop); `ids` are those of this text."""
        begin = 0 if first == 0 else int(self.ends[first - 1])
        end = len(self.text) if stop is None else int(self.ends[stop - 1])
        before, until = size_of(self.text[:begin]), size_of(self.text[:end])
        return TextSize(end - begin, _less(until.num_chars, before.num_chars), _less(until.num_words, before.num_words))


@dataclass(frozen=True, slots=True)
class PretrainedModel:
    """A pretrained model on its device.

    Attributes:
        config: as a suite has it.
        source: path, revision and checksums: `lm_models.huggingface.files.describe`.
        model: the model with the harness's interface.
        tokenizer: the model's own.
    """

    config: Config
    source: Mapping[str, Any]
    model: Adapter
    tokenizer: Tokenizer

    @property
    def reading(self) -> str:
        """How a text becomes tokens, in words."""
        begin = self.tokenizer.begin
        first = "the first only conditions" if begin is None else f"after {begin}"
        cleaned = (
            "" if self.config.detokenizer == "none" else f", of the text as {self.config.detokenizer} detokenises it"
        )
        return f"tokens of the model's own tokeniser, {first}{cleaned}"

    def as_checkpoint(self) -> LoadedModel:
        """The model as `harness.evaluation.scoring` takes it."""
        return LoadedModel(
            folder=Path(self.config.path),
            model=self.model,
            block={"builder": "hf", **asdict(self.config), **self.model.context_of_targets},
            dtype=self.config.dtype,
            weights_dtype=self.config.dtype,
            vocabulary=self.tokenizer.vocabulary,
            unit=TOKEN,
            sha256=self.source["sha256"],
            device=str(next(self.model.parameters()).device),
            origin=self.source,
            reader=self,
        )

    def read(self, path: Path) -> ReadText:
        """Read a text file and tokenise it.

        Args:
            path: UTF-8 text.

        Returns:
            The text; its first `first_bytes` bytes if the config says so.

        Raises:
            DataError: it cannot be read, is not UTF-8, has no text, is too large for the memory, or its tokens are not
                those of the text.
        """
        import psutil

        most = psutil.virtual_memory().available // _MEMORY_PER_BYTE
        wanted = self.config.first_bytes
        try:
            with open_regular(path) as file:
                raw = file.read(min(most + 1, most + 1 if wanted is None else wanted))
        except OSError as error:
            raise DataError(f"{path} cannot be read: {reason(error)}") from None
        if len(raw) > most:
            raise DataError(f"{path}: tokens of more than {most:,} bytes do not fit into memory now; set first_bytes")
        if wanted is not None:
            raw = _whole_characters(raw)
        try:
            text = _DETOKENIZERS[self.config.detokenizer](raw.decode()).encode()
            encoded = self.tokenizer.encode(text)
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: byte {error.start:,} is not UTF-8 ({error.reason})") from None
        except ValueError as error:
            raise DataError(f"{path}: {error}") from None
        return ReadText(
            ids=np.array(encoded.ids, np.int64),
            begin=encoded.begin,
            text=text,
            ends=np.cumsum(encoded.num_bytes),
            sha256=hashlib.sha256(raw).hexdigest(),
            size_read=size_of(raw),
        )


def load(
    config: Config, *, device: str, places: tuple[Path, ...] = (Path(),), offline: bool = False
) -> PretrainedModel:
    """Find and load a model with its tokeniser.

    Args:
        config: which model.
        device: as torch names it.
        places: folders from which a relative path may start.
        offline: forbid a download.

    Raises:
        CheckpointError: it is missing or damaged, asks for code to be run, or the extra hf is not installed.
    """
    try:
        files = model_files.find(config, places=places, offline=offline)
        source = model_files.describe(config, files)
        tokenizer = loading.load_tokenizer(config, files)  # first: it fails sooner than the weights
        model = loading.load(config, files)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    return PretrainedModel(config, source, model.to(device), tokenizer)


def size_of(text: bytes) -> TextSize:
    """Size of a text of whole characters, or of one whose end is inside a character, which counts."""
    chars = text.decode(errors="ignore")
    # A character and a word count where their first byte is.
    is_cut = len(chars.encode()) < len(text)
    begins_word = is_cut and (not chars or chars[-1].isspace())
    return TextSize(len(text), len(chars) + is_cut, len(chars.split()) + begins_word)


def _whole_characters(raw: bytes) -> bytes:
    """The bytes without the first part of a character at their end; other faults are left to be reported."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(raw)
    except UnicodeDecodeError:
        return raw
    return raw[: len(raw) - len(decoder.getstate()[0])]


def _less(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one - other
