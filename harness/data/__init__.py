"""Datasets: the table, where their files come from, and their token ids.

A dataset block of a suite goes in: a registered name, the user's own text, or the synthetic source. `prepare` finds or
downloads the files, verifies them and writes token ids once into a folder of the cache; `load` maps them into memory as
a `Corpus`. `facts` and `identify` need no data. `list_rows`, `where`, `verify` and `import_file` serve `harness data`.
Importing this package loads neither numpy nor torch, httpx or pydantic.
"""

from __future__ import annotations

from harness.data.config import KINDS, DatasetConfig, MarkovSource, Registered, parse
from harness.data.download.http import download_bars, download_lines
from harness.data.download.locate import cache_folder, search_roots
from harness.data.download.obtain import network_is_off
from harness.data.folder import load, read_manifest
from harness.data.preparation import facts, find_prepared, find_split, find_text, identify, prepare, prepare_again
from harness.data.registry import DATASETS, Dataset, KnownText, get_dataset
from harness.data.status import import_file, list_rows, verify, where

__all__ = [
    "DATASETS", "KINDS", "Dataset", "DatasetConfig", "KnownText", "MarkovSource", "Registered", "cache_folder",
    "download_bars", "download_lines", "facts", "find_prepared", "find_split", "find_text", "get_dataset", "identify",
    "import_file", "list_rows", "load", "network_is_off", "parse", "prepare", "prepare_again", "read_manifest",
    "search_roots", "verify", "where",
]  # fmt: skip
