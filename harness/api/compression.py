"""Compress files with a model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.scores import load_checkpoint

if TYPE_CHECKING:
    from harness.evaluation.coding.coder import OnStart
    from harness.evaluation.coding.compressor import Compressed, Decompressed


def compress(
    model: Path | str,
    file: Path | str,
    out: Path | str,
    *,
    streams: int | None = None,
    device: str = "auto",
    settings: Sequence[str] = (),
    on_start: OnStart | None = None,
) -> Compressed:
    """Compress a file with a model, and decode it again before it is written.

    Args:
        model: folder of a checkpoint or of a run, or `hf:PATH` for a pretrained model.
        file: any file of at most 1 GiB.
        out: the new file.
        streams: parts of the text to code together; None for a number that fits its length.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        settings: for `hf:PATH`: keys of its model block.
        on_start: called with the name and the number of tokens of each part of the work; returns a function that is
            called with the number of tokens since the last call.

    Returns:
        Sizes and times.

    Raises:
        HarnessError: the model or the file cannot be used, `out` exists or cannot be written, or the extra audit is not
            installed.
    """
    from harness.evaluation.coding import coder, compressor, container, rows

    rows.library()
    content = _read(Path(file), Path(out), container.MAX_BYTES)
    loaded = load_checkpoint(model, device, settings)
    made = compressor.compress(loaded, content, streams=streams, on_start=on_start or coder.ignore_start)
    _write(Path(out), made.file)
    return made


def decompress(
    model: Path | str,
    file: Path | str,
    out: Path | str,
    *,
    device: str = "auto",
    settings: Sequence[str] = (),
    on_start: OnStart | None = None,
) -> Decompressed:
    """Write the file that `compress` read; arguments as there.

    Raises:
        HarnessError: the file is damaged or cut, or was compressed with another model or on another machine; or as for
            `compress`.
    """
    from harness.core.errors import DataError
    from harness.evaluation.coding import coder, compressor, container, rows

    rows.library()
    compressed = _read(Path(file), Path(out), container.MAX_FILE_BYTES)
    try:
        container.unpack(compressed)  # before the model is loaded
        loaded = load_checkpoint(model, device, settings)
        made = compressor.decompress(loaded, compressed, on_start=on_start or coder.ignore_start)
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    _write(Path(out), made.content)
    return made


def _read(file: Path, out: Path, most: int) -> bytes:
    """The content of a file, if the other one is new: a long work must not end with a refusal."""
    from harness.core.errors import DataError, StoreError
    from harness.core.messages import reason
    from harness.system.reading import read_bytes

    if os.path.lexists(out):
        raise StoreError(f"{out}: exists; name a new file")
    try:
        return read_bytes(file, most)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {reason(error)}") from None


def _write(out: Path, content: bytes) -> None:
    from harness.core.errors import writing
    from harness.system.files import write_atomic

    with writing(out):
        write_atomic(out, content)
