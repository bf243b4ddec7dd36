"""The word list of the official code's data folder, which its checkpoints do not hold."""

from __future__ import annotations

import stat
from pathlib import Path

from harness.core.errors import DataError

FILES = ("train.txt", "valid.txt", "test.txt")
EOS = "<eos>"


def read(folder: Path) -> list[str]:
    """Tokens in order of first appearance over the three files, each line followed by `<eos>`.

    As data.py of awd-lstm-lm reads them: a token is what `str.split` leaves, blank lines count. Raises DataError naming
    a file that is missing or not UTF-8.
    """
    for name in FILES:
        if not _is_file(folder / name):
            raise DataError(f"{folder} lacks {name}; the official code's data folder holds {', '.join(FILES)}")
    seen: dict[str, None] = {}
    for name in FILES:
        _add(folder / name, seen)
    return list(seen)


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _add(path: Path, seen: dict[str, None]) -> None:
    num_lines = 0
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                num_lines += 1
                seen.update(dict.fromkeys(line.split()))
                seen.setdefault(EOS)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 near line {num_lines + 1:,} ({error.reason}); mend the file") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
