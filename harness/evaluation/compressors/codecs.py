"""Compress and decompress bytes by each method of `builder: compressor`.

The window of a method is set to hold all of its input where the format allows it:

- `gzip`: 32 KiB, always. `bzip2`: blocks of `level` times 100 kB, each on its own.
- `xz`: a dictionary as large as the input, up to 1.5 GiB.
- `zstd`: a window of at least the input, up to 2 GiB; long-distance matching above 128 MiB.
- `brotli`: a window of at least the input, up to 16 MiB.
- `ppmd`: variant I with 32 bytes of memory for each byte of the input, 16 MiB to 1 GiB; a full memory starts again.

    >>> config = Config(method="bzip2", level=9)
    >>> decompress(config, compress(config, b"some text"), 9)
    b'some text'
"""

from __future__ import annotations

import bz2
import lzma
import platform
import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any

from harness.core.errors import HarnessError
from lm_models.compressor.config import Config

# Called with the number of bytes read since the last call. It may raise to stop.
Tick = Callable[[int], None]

_CHUNK = 1 << 20
_XZ_DICTIONARY = (1 << 12, 3 << 29)
_ZSTD_WINDOW_LOG = (10, 31)
# As the command line of zstd: windows of more than 2^27 bytes are searched with long-distance matching.
_ZSTD_LONG = 27
_BROTLI_WINDOW_LOG = (10, 24)
_PPMD_MEMORY_LOG = (24, 30)
_PPMD_BYTES_PER_BYTE = 32

# Method -> package that it needs; the others come with Python.
PACKAGES = {"zstd": "zstandard", "brotli": "brotli", "ppmd": "pyppmd"}


def compress(config: Config, data: bytes, tick: Tick | None = None) -> bytes:
    """Compress bytes to one file of the method's format.

    Args:
        config: method and level.
        data: at least one byte.
        tick: called after each MiB that was read.

    Returns:
        The file's bytes, with the format's own header and checksum.

    Raises:
        HarnessError: the package of the method is not installed.
    """
    feed, finish = _ENCODERS[config.method](config, len(data))
    parts = []
    for start in range(0, len(data), _CHUNK):
        chunk = data[start : start + _CHUNK]
        parts.append(feed(chunk))
        if tick is not None:
            tick(len(chunk))
    return b"".join([*parts, finish()])


def decompress(config: Config, code: bytes, num_bytes: int) -> bytes:
    """The bytes that `compress` was given.

    Args:
        config: as for `compress`.
        code: what it returned.
        num_bytes: length of the result, which `ppmd` needs for the size of its memory.

    Returns:
        The bytes; other ones, or an error of the library, if the file is damaged.

    Raises:
        HarnessError: the package of the method is not installed.
    """
    match config.method:
        case "gzip":
            return zlib.decompress(code, wbits=31)
        case "bzip2":
            return bz2.decompress(code)
        case "xz":
            return lzma.decompress(code)
        case "zstd":
            bound = 1 << _ZSTD_WINDOW_LOG[1]
            restored = _package("zstd").ZstdDecompressor(max_window_size=bound).decompress(code)
        case "brotli":
            restored = _package("brotli").decompress(code)
        case "ppmd":
            decoder = _package("ppmd").Ppmd8Decoder(config.level, _ppmd_memory(num_bytes))
            restored = decoder.decode(code, num_bytes)
    return bytes(restored)


def library(config: Config) -> dict[str, str]:
    """Versions that decide on the size of a file; HarnessError if the package of the method is not installed."""
    python = {"python": platform.python_version()}
    if config.method == "gzip":
        return {**python, "zlib": zlib.ZLIB_RUNTIME_VERSION}
    if config.method not in PACKAGES:
        # Python does not say which version of these it was built with.
        return {**python, "bz2" if config.method == "bzip2" else "liblzma": "of this Python; it does not say which"}
    package = _package(config.method)
    versions = {**python, PACKAGES[config.method]: str(package.__version__)}
    if config.method == "zstd":
        versions["libzstd"] = ".".join(map(str, package.ZSTD_VERSION))
    return versions


def _package(method: str) -> Any:
    name = PACKAGES[method]
    try:
        return import_module(name)
    except ImportError:
        raise HarnessError(f"{method} needs the package {name}: pip install 'lm-harness[compressors]'") from None


_Encoder = tuple[Callable[[bytes], bytes], Callable[[], bytes]]


def _gzip(config: Config, num_bytes: int) -> _Encoder:
    encoder = zlib.compressobj(config.level, wbits=31)
    return encoder.compress, encoder.flush


def _bzip2(config: Config, num_bytes: int) -> _Encoder:
    encoder = bz2.BZ2Compressor(config.level)
    return encoder.compress, encoder.flush


def _xz(config: Config, num_bytes: int) -> _Encoder:
    preset = config.level | (lzma.PRESET_EXTREME if config.extreme else 0)
    lowest, highest = _XZ_DICTIONARY
    size = min(max(num_bytes, lowest), highest)
    encoder = lzma.LZMACompressor(filters=[{"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": size}])
    return encoder.compress, encoder.flush


def _zstd(config: Config, num_bytes: int) -> _Encoder:
    zstandard = _package("zstd")
    window_log = _log_within(num_bytes, _ZSTD_WINDOW_LOG)
    settings = zstandard.ZstdCompressionParameters.from_level(
        config.level, source_size=num_bytes, window_log=window_log, enable_ldm=window_log > _ZSTD_LONG
    )
    encoder = zstandard.ZstdCompressor(compression_params=settings).compressobj(size=num_bytes)
    return encoder.compress, encoder.flush


def _brotli(config: Config, num_bytes: int) -> _Encoder:
    # A window holds 16 bytes less than its size.
    window_log = _log_within(num_bytes + 16, _BROTLI_WINDOW_LOG)
    encoder = _package("brotli").Compressor(quality=config.level, lgwin=window_log)
    return encoder.process, encoder.finish


def _ppmd(config: Config, num_bytes: int) -> _Encoder:
    encoder = _package("ppmd").Ppmd8Encoder(config.level, _ppmd_memory(num_bytes))
    return encoder.encode, encoder.flush


_ENCODERS = {"gzip": _gzip, "bzip2": _bzip2, "xz": _xz, "zstd": _zstd, "brotli": _brotli, "ppmd": _ppmd}


def _ppmd_memory(num_bytes: int) -> int:
    return 1 << _log_within(_PPMD_BYTES_PER_BYTE * num_bytes, _PPMD_MEMORY_LOG)


def _log_within(size: int, bounds: tuple[int, int]) -> int:
    """The smallest power of two, as its exponent within the bounds, that holds a size."""
    return min(max((size - 1).bit_length(), bounds[0]), bounds[1])
