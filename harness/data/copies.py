"""Copies of a prepared dataset on other machines. A folder is named by its content, so a copy is made once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from harness.core.errors import DataError
from harness.data import folder
from harness.data.download.locate import cache_folder, locked, writing
from harness.system.files import write_atomic
from harness.system.paths import under
from harness.system.reading import open_regular


def pack(prepared: Path) -> dict[str, bytes]:
    """The files of a prepared folder by name. Raises DataError for a damaged one."""
    manifest = folder.check_sizes(prepared)
    names = [folder.MANIFEST, folder.VOCABULARY, *(entry.file for entry in manifest.ids.values())]
    files = {}
    for name in dict.fromkeys(names):
        with open_regular(under(prepared, name)) as file:
            files[name] = file.read()
    return files


def obtain(name: str, fetch: Callable[[], Mapping[str, bytes]]) -> Path:
    """The prepared folder of this name in the cache of this machine, fetched unless it is there and undamaged.

    Args:
        name: of the folder, which names its content.
        fetch: gives the files by name. Called at most once, and by one process of the machine at a time.

    Returns:
        The folder, for `load`.

    Raises:
        DataError: it cannot be written, or the files that came are damaged.
    """
    target = under(cache_folder() / "prepared", name)
    if not folder.find_damage(target):
        return target
    with locked(name):
        if not folder.find_damage(target):  # another process may have fetched it meanwhile
            return target
        with writing(), folder.replacing(target) as building:
            for filename, content in fetch().items():
                write_atomic(under(building, filename), content)
        if damage := folder.find_damage(target):
            raise DataError(f"{target}: came damaged: {damage[0]}")
    return target
